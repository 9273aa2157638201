"""Everything this room refuses, by name. See docs/guide/data.md for what a reader of these messages should do."""

from collegium.errors import CollegiumError

_SHOWN_MAX = 40


def shown(text: str) -> str:
    """Returns `text` quoted and cut to one short line, so that a hostile cell cannot flood a terminal or a log."""
    return repr(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…")


class LearningError(CollegiumError):
    """A table, a schema, a model, a rule or a vector handed to the learning room was refused."""


class DataError(LearningError):
    """A data file or a cell in it was refused."""


class NoSuchFileError(DataError):
    """The path names no file."""


class UnreadableFileError(DataError):
    """The file is not a table in the format that its suffix names."""


class EmptyTableError(DataError):
    """The file holds no header or no row."""


class TableTooLargeError(DataError):
    """The file, its rows, its columns or its cells exceed a stated limit."""


class ColumnNameError(DataError):
    """A column name is empty or occurs twice."""


class MissingColumnError(DataError):
    """A column that was asked for is not in the table."""


class EmptyColumnError(DataError):
    """A column holds no value at all, so nothing can be learned about it."""


class TooManyCategoriesError(DataError):
    """A text column holds more different values than a category column may have."""


class NotANumberError(DataError):
    """A cell of a numeric column is not a number."""


class NotFiniteError(DataError):
    """A cell of a numeric column is infinite."""


class UnknownCategoryError(DataError):
    """A cell of a category column is not in the schema's vocabulary."""


class UnknownLabelError(DataError):
    """A label cell is neither a positive nor a negative value."""


class OneClassError(DataError):
    """All labels are the same, so there is nothing to tell apart."""


class EmptySiteError(DataError):
    """A row names no site, or no site has enough rows to train."""


class SplitError(DataError):
    """The way to split a table into trainers and test rows makes no sense."""


class SchemaError(LearningError):
    """A public schema is malformed, out of bounds or not canonical."""


class StatisticsError(LearningError):
    """A total of statistics is not one that any rows can have."""


class ModelSpecError(LearningError):
    """A model's shape is out of bounds."""


class RuleError(LearningError):
    """A training rule's number is out of bounds."""


class OverflowBudgetError(LearningError):
    """A model and a rule together could exceed the integers that hold their sums."""


class EmptyTotalError(LearningError):
    """A total stands for no row, so there is no average to step by."""


class ParameterError(LearningError):
    """A vector of parameters has the wrong length, an entry out of range or a non-canonical encoding."""


class TotalError(LearningError):
    """A total of updates has the wrong length or type."""


class TrainingRowsError(LearningError):
    """Features or labels have the wrong shape, type or range."""


class ActivationRangeError(LearningError):
    """A hidden pre-activation lies outside the range that the rule's `activation_limit` allows."""


class ErrorRangeError(LearningError):
    """A back-propagated value lies outside the range that the rule's `error_limit` allows."""


class AttackError(LearningError):
    """A description of an attack was refused."""
