"""The refusals that have to do with datasets; the tree is in `errors.py`."""

from __future__ import annotations

from training_cluster.domain.errors import Conflict, NotFound, Unavailable


class DatasetNotFound(NotFound):
    """There is no such dataset."""

    code = "dataset_not_found"


class UploadNotFound(NotFound):
    """There is no such upload."""

    code = "upload_not_found"


class DatasetInUse(Conflict):
    """A job or a model refers to this dataset."""

    code = "dataset_in_use"


class DatasetNotReady(Conflict):
    """The dataset is not ready."""

    code = "dataset_not_ready"


class NameTaken(Conflict):
    """The name is taken."""

    code = "name_taken"


class WrongOffset(Conflict):
    """This part does not follow on what has come so far."""

    code = "wrong_offset"


class InspectorUnavailable(Unavailable):
    """Datasets cannot be read at the moment."""

    code = "inspector_unavailable"


class InspectorDied(InspectorUnavailable):
    """The process that reads a dataset died over it."""

    code = "inspector_died"
