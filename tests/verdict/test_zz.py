import numpy as np, traceback, warnings
from itera_nb.verdict.rule import evaluate
from itera_nb.diagnosis.diffs import row_differences
from itera_nb.scoring.evidence import compare

def test_probe(make_spec, make_evidence):
    def go(name, ev, spec=None, weights=None):
        spec = spec or make_spec()
        try:
            v = evaluate(spec, ev, weights or {}, {}, np.random.default_rng(1))
            r = v.records[0]
            print(name, v.outcome, r.reason, r.sentence, r.literal, r.warnings)
        except Exception as e:
            print(name, "CRASH", type(e).__name__, e, traceback.format_exc().splitlines()[-3])
    n = 60
    base = np.array([1, 0] * 30)
    up = np.ones(n)
    E = make_evidence
    go("ship", E({"base": base, "better": up}))
    go("onerow", E({"base": [0], "better": [1]}))
    go("one cluster", E({"base": base, "better": up}, cluster=["a"] * n))
    go("slice one cluster", E({"base": base, "better": up}, cluster=["a"] * 10 + [f"c{i}" for i in range(50)], slices={"tenant=a": np.arange(n) < 10, "tenant=b": np.arange(n) >= 10}))
    sev = make_spec(source='severity = "amount"')
    go("zero severity", E({"base": base, "better": up}, weights=np.zeros(n)), sev)
    go("sev one cluster", E({"base": base, "better": up}, weights=np.ones(n), cluster=["a"]*n), sev)
    go("sev one row", E({"base": [0], "better": [1]}, weights=np.ones(1)), sev)
    nan = up.astype(float).copy(); nan[:10] = np.nan
    go("nan", E({"base": base, "better": nan}))
    go("nan2", E({"base": np.c_[base, base], "better": np.c_[nan, nan]}))
    go("all nan", E({"base": base, "better": np.full(n, np.nan)}))
    go("identical", E({"base": base, "better": base}))
    go("latency unknown", E({"base": base, "better": up}, latency={"better": np.full(n, np.nan)}), make_spec("max_latency_p95_increase_ms = 5"))
    go("relative", E({"base": base*0+0.9, "better": up}), make_spec('min_effect = "200%"'))
    go("zero base relative", E({"base": base*0, "better": up}), make_spec('min_effect = "200%"'))
    go("no_worse nosaving", E({"base": base, "better": up}), make_spec('goal = "no_worse"\nmargin = 0.03'))
    go("costly from 0", E({"base": base, "better": up}, cost={"better": np.ones(n)}), make_spec('max_cost_increase = 0.25'))
    go("literal", E({"base": base, "better": up}), make_spec('proof = "literal"'))
    m = {"base": {"bad": 1-base}, "better": {"bad": np.zeros(n)}}
    go("modes", E({"base": base, "better": up}, modes=m), weights={"bad": 2.0})
    go("two trials different", E({"base": np.c_[base, base], "better": up}))
    go("empty slices", E({"base": base, "better": up}, slices={}))
    ev = E({"base": np.c_[base, base], "better": np.c_[nan, nan]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try: print(row_differences(ev, "better", "base", .5))
        except Exception as e: print("diffs", type(e), e)
