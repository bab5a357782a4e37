"""The errors a user can cause and mend: each says field, value, reason and remedy."""


class MedtrainError(Exception):
    """Base of every error that is the user's to mend; jobs print it without a traceback and exit with 2."""


class ConfigError(MedtrainError):
    """A setting is unknown, malformed or contradicts another one."""


class DataError(MedtrainError):
    """An input file is absent, damaged or not what its source expects."""


class MissingArtifact(MedtrainError):
    """An input artifact does not exist yet; the message names the job that makes it."""


class IdentityMismatch(MedtrainError):
    """An artifact of this name exists and was made from something else."""


class CorruptArtifact(MedtrainError):
    """An artifact's files are not what its manifest says."""


class TrainingError(MedtrainError):
    """Training cannot go on: no trained token in a step, a loss that is no number, a base that does not fit."""


class GenerationError(MedtrainError):
    """Answers cannot be generated: the workers keep dying."""
