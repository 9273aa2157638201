"""The smallest experiment file; its table need not be there."""

SMALLEST = """
[task]
name = "hospitals"
rounds = 3
seed = 1
level = "unproved"
[data]
path = "heart.csv"
site = "hospital"
label = "disease"
negative = "0"
[model]
kind = "logistic"
[rule]
learning_rate = 0.05
[committee]
seats = 16
"""
