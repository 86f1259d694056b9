"""The one error tree.

CrossfadeError                  exit 1   anything unexpected that is ours
├── ConfigError                 exit 2   settings or arguments are wrong
├── MismatchFound               exit 3   a comparison ended with differences, or could not be settled
├── Refused                     exit 4   a gate, a phase or a rule does not allow the act
│   ├── IllegalPhase            exit 4   the migration's phase has no such edge
│   ├── NotPrepared             exit 4   there is no ledger yet
│   └── Overtaken               exit 4   route or phase are no longer what the plan began with; a new plan may do
├── StoreUnavailable            exit 5   a store cannot be reached, or is not what was expected
│   ├── StoreTimeout            exit 5   a store did not answer in time
│   └── StoreContended          exit 5   the transaction gave way to another one; trying again helps
├── CommandLocked               exit 6   another command holds the lock
├── NoAuthority                 exit 1   a store refused a write because the scope's authority is elsewhere
└── RepositoryError             exit 1   a store's refusal of one operation; compared like an answer
    ├── NotFound                         no such record
    ├── Conflict                         a uniqueness rule was violated
    ├── InvalidRecord                    the store does not accept the value
    └── CannotHold                       this store has no way to represent the record

NoAuthority is no RepositoryError: it says nothing of the record, and the other store may well take the write.
Like a RepositoryError it is definite: nothing was changed.

Each message says what happened, to which store or scope, and what to do next. The driver's error
stays as ``__cause__``.
"""

from __future__ import annotations


class CrossfadeError(Exception):
    """Any error that Crossfade raises itself; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class ConfigError(CrossfadeError):
    exit_code = 2


class MismatchFound(CrossfadeError):
    exit_code = 3


class Refused(CrossfadeError):
    exit_code = 4


class IllegalPhase(Refused):
    pass


class NotPrepared(Refused):
    pass


class Overtaken(Refused):
    pass


class StoreUnavailable(CrossfadeError):
    exit_code = 5


class StoreTimeout(StoreUnavailable):
    pass


class StoreContended(StoreUnavailable):
    pass


class CommandLocked(CrossfadeError):
    exit_code = 6


class NoAuthority(CrossfadeError):
    pass


class RepositoryError(CrossfadeError):
    pass


class NotFound(RepositoryError):
    pass


class Conflict(RepositoryError):
    pass


class InvalidRecord(RepositoryError):
    pass


class CannotHold(RepositoryError):
    pass
