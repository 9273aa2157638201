"""Four hospitals learn to tell who has heart disease: what each of them trained is proved, and the run is verified.

.venv/bin/python examples/federation.py     or the same lines in a notebook
"""

from pathlib import Path

import pandas as pd

import collegium

HERE = Path(__file__).parent
ROUNDS = 10

patients = pd.read_csv(HERE / "../src/collegium/apps/demo/heart_disease_uci.csv").drop(columns="id")
hospitals = {name: rows.drop(columns="dataset") for name, rows in patients.groupby("dataset")}
federation = collegium.Federation(hospitals, label="num", positive=[1, 2, 3, 4], level="proved", rounds=ROUNDS)
history = federation.run(progress=True)
print(history[["round", "auc", "accuracy", "loss", "finality_ms", "prove_ms", "verify_ms"]])
print("probability of disease:", federation.model.predict(hospitals["Cleveland"].head(3)))
print("what holds:", *federation.verify().checks, sep="\n  ")
