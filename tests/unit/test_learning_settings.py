"""The later settings of [rule] in an experiment file, and the rule that they give."""

import json
from pathlib import Path

import pytest
from _experiment_stage import SMALLEST

from collegium.node import Experiment, ExperimentBytesError, ExperimentRefusedError, experiment_to_bytes
from collegium.node._experiment import decode_experiment, experiment_from_bytes


def decode(line: str) -> Experiment:
    return decode_experiment(SMALLEST.replace("0.05", f"0.05\n{line}").encode(), Path())


def test_settings_reach_the_experiment_and_its_bytes() -> None:
    experiment = decode('loss = "squared"\nactivation_limit = 16\nerror_limit = 1024')
    rule = experiment.rule
    assert (rule.loss, rule.activation_limit, rule.error_limit) == ("squared", 16, 1024)
    data = experiment_to_bytes(experiment)
    assert experiment_from_bytes(data) == experiment
    assert json.loads(data)["rule"]["activation_limit"] == 16


def test_bytes_without_them_stay_as_they_were() -> None:
    """The digest of an older experiment does not change; bytes that spell the default out are not canonical."""
    data = experiment_to_bytes(decode('loss = "sigmoid"'))
    assert data == experiment_to_bytes(decode(""))
    assert set(json.loads(data)["rule"]) == {"learning_rate", "local_steps", "batch_rows"}
    with pytest.raises(ExperimentBytesError, match="canonical"):
        experiment_from_bytes(data.replace(b'"local_steps":1', b'"local_steps":1,"loss":"sigmoid"'))


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('loss = "softmax"', "loss"),
        ("loss = 1", "loss"),
        ("activation_limit = 0", "activation_limit"),
        ("activation_limit = 12", "activation_limit"),
        ("activation_limit = 2048", "activation_limit"),
        ("error_limit = 3", "error_limit"),
        ("error_limit = 2.0", "error_limit"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(line: str, key: str) -> None:
    with pytest.raises(ExperimentRefusedError) as refusal:
        decode(line)
    assert [problem.where for problem in refusal.value.problems] == [f"rule.{key}"]
