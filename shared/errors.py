"""The errors of a broken run or request. A single bad item is never an exception: it is a `Refusal` (see `refusals`).

    SimilarityError
    ├── ConfigError            an option is missing or wrong
    ├── CatalogError           the catalog file cannot be read as one
    ├── ModelError             a network or its weights cannot be had
    ├── SnapshotError          a snapshot is damaged, foreign or of another format version
    ├── DepotError             a depot cannot be reached, or another publisher was faster
    ├── RunStopped             the run lost more than it may, and published nothing
    └── QuestionError          a question over a snapshot that has no answer
        ├── UnknownPartition   no snapshot of that department and domain
        ├── UnknownProduct     the product is not in the snapshot
        ├── BadQuestion        a parameter is out of its range
        ├── BadPicture         the photo cannot be used; carries the kind of refusal
        ├── NotReady           the network is still loading, or cannot be had here
        ├── ClientGone         nobody waits for the answer any more
        ├── Busy               too many photos wait already
        └── NotKept            a live change cannot be written or read
            └── JournalDamaged the file of live changes is damaged, or not the one that was written

Every message is a sentence that names the thing, the reason and, where there is one, the remedy.
"""


class SimilarityError(Exception):
    """The root: `except SimilarityError` catches every error that the product raises on purpose."""


class ConfigError(SimilarityError):
    """An option is missing or wrong."""


class CatalogError(SimilarityError):
    """The catalog cannot be read: where it is, what is wrong, and on which line or column if known."""


class ModelError(SimilarityError):
    """A network or its weights cannot be loaded."""


class SnapshotError(SimilarityError):
    """A snapshot is damaged, foreign or of another format version."""


class DepotError(SimilarityError):
    """A depot cannot be reached or lacks an object, or another publisher was faster."""


class RunStopped(SimilarityError):
    """The run lost more images than it may, or failed; nothing was published."""


class QuestionError(SimilarityError):
    """A request that has no answer."""


class UnknownPartition(QuestionError):
    """No snapshot of that department and domain is open."""


class UnknownProduct(QuestionError):
    """The product is not in the snapshot."""


class BadQuestion(QuestionError):
    """A parameter is out of its range."""


class BadPicture(QuestionError):
    """The photo cannot be used. `kind` is the kind of refusal (`refusals.Kind`)."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class NotReady(QuestionError):
    """The network is still loading, or cannot be had on this host."""


class ClientGone(QuestionError):
    """Nobody waits for the answer any more."""


class Busy(QuestionError):
    """Too many photos wait already, or this one waited too long."""


class NotKept(QuestionError):
    """A live change cannot be written or read: the disk is full, or its file is damaged."""


class JournalDamaged(NotKept):
    """The file of a partition's live changes is damaged, gone, or an older one than was written."""
