"""Specification files with one thing wrong (or several), and what the message must say."""

from __future__ import annotations

from typing import NamedTuple

from tests.experiment.specs import SITES, TASKS, VIEWS, changed


class Wrong(NamedTuple):
    """A wrong file.

    Args:
        what: is wrong with it.
        text: of the file.
        lines: for each fault what its line of the message must contain, in this order.
    """

    what: str
    text: str
    lines: tuple[tuple[str, ...], ...]


def tasks(what: str, old: str, new: str, *fragments: str) -> Wrong:
    return Wrong(what, changed(TASKS, (old, new)), (fragments,))


def sites(what: str, old: str, new: str, *fragments: str) -> Wrong:
    return Wrong(what, changed(SITES, (old, new)), (fragments,))


def views(what: str, old: str, new: str, *fragments: str) -> Wrong:
    return Wrong(what, changed(VIEWS, (old, new)), (fragments,))


ADULT_SITES = changed(
    SITES,
    ('load = "heart"', 'load = "adult"'),
    ('name = "disease"', 'name = "income"'),
    ('name = "severity"\nloss = "mse"', 'name = "never_married"'),
    ('personal = ["head.severity"]\nhold = {hungary = ["disease"]}', "PARTITION"),
)

WRONG = (
    # what is no TOML, or no specification
    tasks("no TOML", "rounds = 30", "rounds = = 30", ":24: no valid TOML at column 10"),
    tasks("a list without end", "hidden = [8]", "hidden = [8", ":11: no valid TOML", "Unclosed array"),
    tasks("a key given twice", "rounds = 30", "rounds = 30\nrounds = 31", ":25: no valid TOML", "overwrite"),
    tasks("no kind", 'kind = "tasks"\n', "", "kind: is missing", '"tasks", "sites" or "views"'),
    tasks(
        "an unknown kind", 'kind = "tasks"', 'kind = "task"', ':1: kind = "task": unknown kind', '"tasks"?'
    ),
    tasks("a kind that is no text", 'kind = "tasks"', "kind = 3", ":1: kind = 3: unknown kind"),
    # keys
    tasks(
        "an unknown key",
        "rounds = 30",
        "rouns = 30",
        ":24: training.rouns",
        "unknown key",
        '"rounds"?',
        "batch_size",
    ),
    tasks(
        "a key of other libraries",
        "lr = 1e-3",
        "learning_rate = 1e-3",
        ":26: training.learning_rate",
        '"lr"?',
    ),
    tasks("an unknown table", "[encoder]", "[encodr]", ":9: encodr", "unknown key", '"encoder"?'),
    tasks(
        "a table of another kind", "[encoder]", "[views]\n[encoder]", ":9: views", 'a file of kind = "views"'
    ),
    tasks(
        "a key above its table",
        'title = "Two tasks"',
        'aggregator = "mean"',
        ":2: aggregator",
        "belongs to [training]",
    ),
    tasks(
        "a key below its table",
        "hidden = [8]",
        "hidden = [8]\nrounds = 3",
        ":11: encoder.rounds",
        "belongs to [training]",
    ),
    tasks(
        "a kind below a table",
        "hidden = [8]",
        'kind = "tasks"\nhidden = [8]',
        ":10: encoder.kind",
        "above the first [table]",
    ),
    tasks("no name of a task", 'name = "disease"\n', "", ":13: tasks[0].name: is missing"),
    Wrong(
        "no tasks",
        TASKS[: TASKS.index("[[tasks]]")] + TASKS[TASKS.index("[training]") :],
        (("tasks: is missing", "[[tasks]]"),),
    ),
    Wrong("no training", TASKS[: TASKS.index("[training]")], (("training: is missing", "rounds"),)),
    tasks("no length", "rounds = 30\n", "", ":23: training: give rounds = … or epochs = …"),
    tasks(
        "two lengths",
        "rounds = 30",
        "rounds = 30\nepochs = 2",
        ":23: training: give rounds = … or epochs = …",
    ),
    tasks("no data", 'load = "heart"\n', "", ":4: data: give load = …", "adult, heart, mfeat"),
    tasks("two sources of data", 'load = "heart"', 'load = "heart"\npath = "x.csv"', ":4: data: give load"),
    tasks("no model", "hidden = [8]\ndropout = 0.1", "", ":9: encoder: say what it is", "hidden"),
    # types and limits
    tasks(
        "a text for a number",
        "rounds = 30",
        'rounds = "30"',
        ':24: training.rounds = "30": must be a whole number',
    ),
    tasks(
        "a part of a round",
        "rounds = 30",
        "rounds = 30.5",
        ":24: training.rounds = 30.5: must be a whole number",
    ),
    tasks(
        "yes for a number",
        "rounds = 30",
        "rounds = true",
        ":24: training.rounds = true: must be a whole number",
    ),
    tasks("no round", "rounds = 30", "rounds = 0", ":24: training.rounds = 0: must be at least 1"),
    tasks("a negative rate", "lr = 1e-3", "lr = -0.5", ":26: training.lr = -0.5: must be greater than 0"),
    tasks("a rate that is none", "lr = 1e-3", "lr = nan", ":26: training.lr", "must be finite"),
    tasks("a share above 1", "test = 0.25", "test = 1.5", ":6: data.test = 1.5: must be less than 1"),
    tasks(
        "an odd batch", "batch_size = 32", 'batch_size = "all"', ':25: training.batch_size = "all"', '"full"'
    ),
    tasks("a number for a list", "hidden = [8]", "hidden = 8", ":10: encoder.hidden = 8: must be a list"),
    tasks(
        "a layer without width",
        "hidden = [8]",
        "hidden = [8, 0]",
        ":10: encoder.hidden[1] = 0: must be at least 1",
    ),
    tasks(
        "one class",
        'name = "disease"',
        'name = "disease"\nclasses = 1',
        ":15: tasks[0].classes = 1: must be at least 2",
    ),
    tasks(
        "classes of amounts",
        'loss = "mse"',
        'loss = "mse"\nclasses = 3',
        ":18: tasks[1]: classes = 3 is for cross_entropy",
    ),
    sites(
        "one seed",
        "[sites]",
        "[compare]\nseeds = 1\n[sites]",
        ":19: compare.seeds = 1: must be how many, two or more",
    ),
    # comparisons
    tasks(
        "an unknown alternative",
        "[encoder]",
        '[compare]\nagainst = ["sole"]\n[encoder]',
        ':10: compare.against[0] = "sole"',
        '"solo"?',
    ),
    tasks(
        "an alternative of sites",
        "[encoder]",
        '[compare]\nagainst = ["pooled"]\n[encoder]',
        ":10: compare.against[0]",
        "valid",
    ),
    tasks(
        "an alternative given twice",
        "[encoder]",
        '[compare]\nagainst = ["solo", "solo"]\n[encoder]',
        ":10: compare.against[1]",
        "twice",
    ),
    tasks(
        "no alternative",
        "[encoder]",
        "[compare]\nagainst = []\n[encoder]",
        ":10: compare.against",
        "at least 1",
    ),
    tasks(
        "an alternative's option",
        "[encoder]",
        '[compare]\nagainst = [{name = "cagrad", d = 1}]\n[encoder]',
        ":10: compare.against[0].d",
        "valid: c, eps, preference, rescale",
    ),
    tasks(
        "an option of none",
        "[encoder]",
        '[compare]\nagainst = [{name = "solo", d = 1}]\n[encoder]',
        ":10: compare.against[0]",
        "no options",
    ),
    tasks(
        "a misspelt baseline",
        "[encoder]",
        '[compare]\nagainst = ["solo", "tunde"]\n[encoder]',
        ':10: compare.against[1] = "tunde"',
        '"tuned"?',
        "by_size",
    ),
    tasks(
        "a baseline's option",
        "[encoder]",
        '[compare]\nagainst = [{name = "tuned", trails = 9}]\n[encoder]',
        ":10: compare.against[0].trails = 9",
        '"trials"?',
    ),
    tasks(
        "a baseline's option of another type",
        "[encoder]",
        '[compare]\nagainst = [{name = "tuned", trials = "many"}]\n[encoder]',
        ':10: compare.against[0].trials = "many"',
        "a whole number",
    ),
    tasks(
        "a baseline's option out of range",
        "[encoder]",
        '[compare]\nagainst = [{name = "tuned", trials = 0}]\n[encoder]',
        ":10: compare.against[0]",
        "trials=0: must be a whole number of at least 1",
    ),
    sites(
        "a baseline of tasks",
        "[sites]",
        '[compare]\nagainst = ["tuned"]\n[sites]',
        ':19: compare.against[0] = "tuned"',
        "valid: ",
    ),
    # searches
    tasks("no trial", "[encoder]", "[tune]\ntrials = 0\n[encoder]", ":10: tune.trials = 0", "at least 1"),
    tasks(
        "nothing to search",
        "[encoder]",
        "[tune]\nsearch = []\n[encoder]",
        ":10: tune.search",
        "at least 1",
    ),
    tasks(
        "what is not searched",
        "[encoder]",
        '[tune]\nsearch = ["lr", "weight"]\n[encoder]',
        ':10: tune.search[1] = "weight"',
        '"weights"?',
    ),
    tasks(
        "an unknown method to search",
        "[encoder]",
        '[tune]\naggregators = ["upgrad", "cagard"]\n[encoder]',
        ':10: tune.aggregators[1] = "cagard"',
        '"cagrad"?',
    ),
    tasks(
        "methods that are not searched",
        "[encoder]",
        '[tune]\nsearch = ["lr"]\naggregators = ["upgrad"]\n[encoder]',
        ":9: tune: aggregators are not searched",
        'add "aggregator"',
    ),
    tasks("a key of a search", "[encoder]", "[tune]\ntrails = 9\n[encoder]", ":10: tune.trails", '"trials"?'),
    tasks(
        "a metric to search by",
        "[encoder]",
        '[tune]\nmetric = "auroc"\n[encoder]',
        ':10: tune.metric = "auroc"',
        'task "max_heart_rate" has loss, mae',
    ),
    sites(
        "a search for sites",
        "[sites]",
        "[tune]\ntrials = 9\n[sites]",
        ":18: tune",
        'kind = "tasks"',
    ),
    # names
    tasks("an unknown data set", 'load = "heart"', 'load = "hart"', ':5: data.load = "hart"', '"heart"?'),
    tasks(
        "an unknown aggregator",
        '"upgrad"',
        '"upgrd"',
        ':28: training.aggregator = "upgrd"',
        '"upgrad"?',
        "mgda",
    ),
    tasks(
        "an aggregator of labels",
        '"upgrad"',
        '{name = "confident", threshold = 0.9}',
        ":28: training.aggregator: unknown",
    ),
    tasks(
        "an unknown option",
        '"upgrad"',
        '{name = "cagrad", rescle = true}',
        ":28: training.aggregator.rescle",
        '"rescale"?',
    ),
    tasks(
        "an option out of range",
        '"upgrad"',
        '{name = "cagrad", c = 4.0}',
        ":28: training.aggregator",
        "c=4.0",
    ),
    tasks(
        "an option of another type",
        '"upgrad"',
        '{name = "cagrad", c = "x"}',
        ':28: training.aggregator.c = "x"',
        "a number",
    ),
    tasks(
        "an option that is needed",
        '"upgrad"',
        '"krum"',
        ":28: training.aggregator",
        "needs the option byzantine",
    ),
    tasks("a list for a name", '"upgrad"', '["upgrad"]', ":28: training.aggregator", "must be a name"),
    tasks(
        "an unknown loss",
        'loss = "mse"',
        'loss = "mes"',
        ':20: tasks[1].loss = "mes"',
        '"mse"?',
        "cross_entropy",
    ),
    tasks(
        "an unknown metric",
        '"accuracy"]',
        '\n"acuracy"]',
        ':17: tasks[0].metrics[1] = "acuracy"',
        '"accuracy"?',
    ),
    tasks(
        "a metric of another loss",
        '["mae"]',
        '["auroc"]',
        ':21: tasks[1].metrics[0] = "auroc"',
        "does not fit",
        "mae",
    ),
    tasks(
        "an unknown optimiser", "lr = 1e-3", 'optimizer = "adm"', ':26: training.optimizer = "adm"', '"adam"?'
    ),
    tasks("a schedule without size", "lr = 1e-3", 'schedule = "sampled"', ":26: training.schedule", "count"),
    tasks(
        "a cohort of too many",
        "lr = 1e-3",
        'schedule = {name = "sampled", count = 3}',
        ":26: training.schedule",
        "2 participants",
    ),
    tasks("an unknown device", "lr = 1e-3", 'device = "cudda"', ':26: training.device = "cudda"', '"cuda:1"'),
    tasks(
        "an unknown target",
        'name = "disease"',
        'name = "diseas"',
        ':14: tasks[0].name = "diseas"',
        '"disease"?',
        "severity",
    ),
    tasks(
        "two tasks of one name",
        'name = "max_heart_rate"',
        'name = "disease"',
        ":19: tasks[1].name",
        "must differ",
    ),
    tasks(
        "no such strata", "test = 0.25", 'test = 0.25\nstratify = "diseas"', ":7: data.stratify", '"disease"?'
    ),
    tasks(
        "nothing to evaluate on", "validation = 0.1\n", "", ":28: training.evaluate_every = 10", "validation"
    ),
    # models of the user's own
    tasks(
        "a model that is not installed",
        "hidden = [8]\ndropout = 0.1",
        'factory = "nowhere:f"',
        ":10: encoder.factory",
        "no installed module nowhere",
    ),
    tasks(
        "a model that is not there",
        "hidden = [8]\ndropout = 0.1",
        'factory = "lianhe.nets:MLPs"',
        ":10: encoder.factory",
        '"MLP"?',
    ),
    tasks(
        "no reference to a model",
        "hidden = [8]\ndropout = 0.1",
        'factory = "lianhe.nets"',
        ":10: encoder.factory",
        "package.module:name",
    ),
    tasks(
        "what makes no model",
        "hidden = [8]\ndropout = 0.1",
        'factory = "builtins:dict"',
        ":10: encoder.factory",
        "gave a dict",
    ),
    tasks(
        "two models",
        "hidden = [8]",
        'hidden = [8]\nfactory = "lianhe.nets:MLP"',
        ":9: encoder: hidden and dropout",
    ),
    # sites
    sites(
        "an unknown site",
        "hungary",
        "hungry",
        ":20: sites.hold.hungry",
        "unknown site",
        '"hungary"?',
        "cleveland",
    ),
    sites(
        "an unknown task held",
        'hungary = ["disease"]',
        'va = ["desease"]',
        ':20: sites.hold.va[0] = "desease"',
        '"disease"?',
    ),
    sites(
        "a task without labels",
        'hungary = ["disease"]',
        'hungary = ["severity"]',
        ":20: sites.hold.hungary[0]",
        "labels of disease only",
    ),
    sites(
        "an unknown block",
        '"head.severity"',
        '"head.sevrity"',
        ":19: sites.personal[0]",
        '"head.severity"?',
        "encoder",
    ),
    sites("a rate of joint steps", "rounds = 6", "rounds = 6\nlr = 0.1", ":24: training.lr = 0.1", "[local]"),
    sites(
        "sites divided again",
        "[sites]",
        '[sites]\npartition = {by = "iid", sites = 3}',
        ":19: sites.partition",
        "come by site",
    ),
    Wrong(
        "no sites", ADULT_SITES.replace("PARTITION", ""), ((":17: sites: say how rows are divided", "iid"),)
    ),
    Wrong(
        "half a partition",
        ADULT_SITES.replace("PARTITION", 'partition = {by = "dirichlet", sites = 3}'),
        ((":18: sites.partition", "needs alpha, label"),),
    ),
    Wrong(
        "an unknown partition",
        ADULT_SITES.replace("PARTITION", 'partition = {by = "dirichle", sites = 3}'),
        ((":18: sites.partition.by", '"dirichlet"?'),),
    ),
    # views
    views("an unknown view", '"zer"]', '"zar"]', ':8: views.names[1] = "zar"', '"zer"?', "kar"),
    views(
        "an unknown class", "names =", 'target = "digits"\nnames =', ':8: views.target = "digits"', '"digit"?'
    ),
    views(
        "too few labels",
        "labels_per_class = 3",
        "labels_per_class = 151",
        ":9: views.labels_per_class = 151",
        "150 training rows",
    ),
    views("no pool", "labels_per_class = 3\n", "", ":7: views: every row is labelled", "labels_per_class"),
    views(
        "an aggregator of rows",
        '{name = "confident", per_class = 5}',
        '"mean"',
        ":13: training.aggregator",
        "confident",
    ),
    views(
        "two targets",
        'load = "mfeat"',
        'load = "adult"',
        ":7: views: say what is predicted",
        "income, never_married",
    ),
    Wrong(
        "one view only",
        changed(VIEWS, ('load = "mfeat"', 'load = "adult"'), ("names =", 'target = "income"\nnames =')),
        ((":3: data: adult has one view only", "x_<view>"),),
    ),
    # several at once
    Wrong(
        "four things",
        changed(
            TASKS,
            ("rounds = 30", "rouns = 30"),
            ('"upgrad"', '"upgrd"'),
            ('"mse"', '"mes"'),
            ("test = 0.25", "test = 2"),
        ),
        (
            (":6: data.test",),
            (":20: tasks[1].loss",),
            (":24: training.rouns",),
            (":28: training.aggregator",),
        ),
    ),
)
