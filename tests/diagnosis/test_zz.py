import itera_nb, traceback
ITER = '''name = "wider"
parent = "better"
what = "a higher upper level"
hypothesis = "Rows of high levels are answered too."
predicted_effect = 0.1
class = "universal"
evidence = "it reads the level, whatever it is"
action = "keep"
[change]
target = "arms/wider.py:answer"
'''
CODE = open('/work/main/tests/conftest.py').read()
def go(make_experiment, it=ITER, name="wider"):
    code = '''def answer(row):
    words = dict(word.split("=") for word in row["text"].split()[1:])
    right = 0 <= int(words["level"]) < 95
    return words["answer"] if right else "no" if words["answer"] == "yes" else "yes"
'''
    e = make_experiment(rows=150, extra_toml='[iterate]\n', files={f"iterations/queue/{name}.toml": it, "arms/wider.py": code})
    e.frame.lock(); e.source.sample(); e.source.audit(); e.split.seal(); e.metric.try_on(); e.metric.lock(); e.pilot(); e.run("train"); e.run("dev")
    return e
def test_amend(make_experiment):
    e = go(make_experiment)
    print(e.iterate().text); print(e.gate().text)
    f = e.experiment.folder / "experiment.toml"
    f.write_text(f.read_text().replace("min_effect = 0.05", "min_effect = 0.06"))
    e.amend("because")
    e.metric.try_on(); e.pilot(); e.run("train"); e.run("dev")
    try: print(e.iterate().text)
    except Exception: traceback.print_exc()
    try: print(e.lock().text)
    except Exception: traceback.print_exc()
def test_column(make_experiment):
    try:
        e = go(make_experiment, ITER.replace('class =', 'predicted_rows = {tenat="x"}\nclass ='))
        print(e.iterate().text)
    except Exception as err: print(type(err), err)
def test_name(make_experiment):
    try:
        e = go(make_experiment, ITER, name="better")
        print(e.iterate().text)
        print(e.inspect().text)
    except Exception as err: print(type(err), err)
