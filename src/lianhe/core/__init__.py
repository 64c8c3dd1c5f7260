"""The loop and its values; knows no method, no network and no file format."""
