"""Does training together help here, for whom, and at what price?"""
