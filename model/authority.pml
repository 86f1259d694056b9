/*
 * The protocol by which write authority moves between two stores, for the model checker Spin.
 * How to read it, what is left out and why: README.md. Run it: python model/check.py
 *
 * SCOPES scopes; route[st] is how many of them the route row of store st gives to new (scope s is new's when
 * s < route[st]). A row is one bit: whether it is the latest acknowledged version. Every write makes the copy it is
 * made on the latest, and every other copy, also one that a carrier has in hand, an old one. Nothing in the protocol
 * depends on which version it is, so one bit stands for any number of writes.
 *
 * -DBOUNDED gives every run an end: so many writes, acts, attempts and faults. Without it there is no bound.
 * -DRECORD lets a rogue writer past the guard (guard mode `record`).
 * -DWITNESS=... makes the checker show that something is possible; every other switch breaks one rule (check.py).
 * atomic and d_step hold what one database does at once; anything may happen between two steps. Numbers in comments
 * are those of the protocol's steps (README.md).
 */
#ifndef SCOPES
#define SCOPES 1
#endif
#ifndef CARRIERS
#define CARRIERS 2
#endif
#ifndef OPERATORS
#define OPERATORS 2
#endif
#define LEGACY 0
#define NEW 1
#define OTHER(st) (1 - (st))

/* The two databases: what is committed. */
byte route[2];                   /* the route row */
bool latest[2 * SCOPES];         /* the rows: is it the latest acknowledged version? */
byte notes[2 * SCOPES];          /* crossfade.dirty; bit m: there are notes that exactly the carriers in set m have read */
bool pending, owner;             /* the journal, in new: one act, whose, and from where to where */
byte was, will;

/* The locks. They belong to transactions, and go with them. */
byte shared[2];                  /* the fence's lock: how many hold it shared, */
byte fenced[2];                  /* and who holds it exclusively: operator + 1 */
byte in_hand[2 * SCOPES];        /* scope locks: carrier + 1 */
byte journal_lock;               /* the journal's row FOR UPDATE: operator + 1 */
bool open[4];                    /* transaction of operator o in store st: not ended, its connection not cut */
bool frozen[2];                  /* an operator that does nothing, its connections alive */

/* What the carriers, as clients, have in their heads. */
byte cares[2];                   /* the scope */
bool fresh[2];                   /* what was read of the row: is it still the latest version? */

#ifdef BOUNDED
#ifndef WRITES
#define WRITES 2
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
byte writes = WRITES, acts = 2, faults = FAULTS;
#define ATTEMPTS 2
#define MAY(what) (what > 0)
#define PAY(what) what--
#else
#define MAY(what) true
#define PAY(what) skip
#endif

#define ROW(st, s) latest[(st) * SCOPES + (s)]
#define NOTES(st, s) notes[(st) * SCOPES + (s)]
#define LOCK(st, s) in_hand[(st) * SCOPES + (s)]
#define OPEN(o, st) open[(o) * 2 + (st)]
#define AUTHORITY(st, s) ((s) < route[st])
#define AGREED(s) (AUTHORITY(LEGACY, s) == AUTHORITY(NEW, s))
#define NOTE(st, s) NOTES(st, s) = NOTES(st, s) | 1

/* Notes by reader. Carrier c in {0, 1} is the number c + 1 in a set. */
#define MINE(c) ((c) -> 12 : 10)
#define READ_NOTES(c, n) n = ((n & (15 - MINE(c))) << ((c) + 1)) | (n & MINE(c))
#define DELETE_READ(c, n) n = n & (15 - MINE(c))
#define LEAVE_READ(c, n) n = (n & (15 - MINE(c))) | ((n & MINE(c)) >> ((c) + 1))

/* The laws; looked at after every commit. */
#define NEVER_TWO_AUTHORITIES (route[NEW] <= route[LEGACY])
#define HALF_DONE_IS_JOURNALLED (route[NEW] == route[LEGACY] || pending)
#define NOTHING_LOST(s) \
    (AGREED(s) -> ROW(AUTHORITY(NEW, s), s) : (ROW(LEGACY, s) && ROW(NEW, s)))
#define EQUAL_WHEN_DRAINED(s) (NOTES(LEGACY, s) || NOTES(NEW, s) || (ROW(LEGACY, s) && ROW(NEW, s)))

inline laws() {
    assert(NEVER_TWO_AUTHORITIES);
    assert(HALF_DONE_IS_JOURNALLED);
    assert(NOTHING_LOST(0));
    assert(EQUAL_WHEN_DRAINED(0));
#if SCOPES > 1
    assert(NOTHING_LOST(1));
    assert(EQUAL_WHEN_DRAINED(1))
#endif
}

/* Everything that a witness run shall show to be possible: the assertion fails when it is. */
#ifdef WITNESS
#define SEEN(what) assert(WITNESS != (what))
#else
#define SEEN(what) skip
#endif
#define MOVED_UP 1
#define MOVED_DOWN 2
#define FINISHED_LATER 3
#define UNDONE_LATER 4
#define REFUSED 5
#define TURNED_AROUND 6
#define GIVEN_UP 7

inline end_writer() { shared[st]--; s = 0 }

/* A writer that has never heard of Crossfade: it meets only the guard. It may hold its transaction open for long. */
proctype writer(bit st) {
    byte s;
#ifdef OLD_SNAPSHOT
    bit seen;
#endif
end_idle:
    do
    :: atomic { s == 0 && MAY(writes); PAY(writes);
#if SCOPES > 1
            if :: s = 0 :: s = 1 fi;
#endif
#ifdef OLD_SNAPSHOT
            seen = AUTHORITY(st, s)  /* REPEATABLE READ: the snapshot is older than the lock */
       };
       atomic {
#endif
            /* BEFORE ROW: the fence's lock, shared, until the transaction ends. */
            fenced[st] == 0; shared[st]++
       };
       /* The same trigger, a query later: read the route, refuse what is the other store's. */
       if
#if defined(NO_GUARD)
       :: true
#elif defined(OLD_SNAPSHOT)
       :: seen == st
       :: d_step { seen != st; end_writer() }; goto end_idle
#else
       :: AUTHORITY(st, s) == st
       :: d_step { AUTHORITY(st, s) != st; SEEN(REFUSED); end_writer() }; goto end_idle
#endif
       fi;
       if
       :: d_step {  /* COMMIT: acknowledged from here on; capture's note is in the same transaction */
            assert(AUTHORITY(LEGACY, s) == st && AUTHORITY(NEW, s) == st);  /* accepted by its authority, and by no other */
            ROW(st, s) = true; ROW(OTHER(st), s) = false;
            if :: cares[0] == s -> fresh[0] = false :: else fi;
            if :: cares[1] == s -> fresh[1] = false :: else fi;
            NOTE(st, s);
            end_writer(); laws()
          }
       :: d_step { true; end_writer() }  /* ROLLBACK, or the death of writer or server */
       fi
    od
}

#ifdef RECORD
#ifdef RECORD_WHILE_MOVING
#define RECORDS true
#else
#define RECORDS !pending  /* an act sets the guards to `enforce` before its first attempt */
#endif
/* Guard mode `record`: a write in the store without authority passes, and is filed. It is not an acknowledged version:
   catch-up undoes it. */
proctype rogue(bit st) {
end_idle:
    do
    :: d_step {
        MAY(writes) && fenced[st] == 0 && AUTHORITY(st, 0) != st && RECORDS;
        PAY(writes); shared[st]++
       };
       d_step { ROW(st, 0) = false; NOTE(st, 0); shared[st]--; laws() }
    od
}
#endif

inline release() {
#ifndef NO_SCOPE_LOCK
    LOCK(taking, s) = 0;
#endif
#ifndef NO_CARRIER_FENCE
    shared[taking]--;
#endif
    fresh[me] = 0
}

inline rest() { giving = 0; taking = 0; s = 0; cares[me] = 0 }

inline die() { LEAVE_READ(me, NOTES(giving, s)); rest() }

inline forget() {
#ifdef FORGET_UPTO
    NOTES(giving, s) = 0;
#else
    DELETE_READ(me, NOTES(giving, s));
#endif
    laws()
}

/* A catch-up worker. It works in either direction, and may be slow, or die, at any step. */
proctype carrier(bit me) {
    bit giving, taking;
    byte s;
end_idle:
    do
    :: atomic {  /* 1. Read notes in the giving store, without a lock. */
        if
        :: NOTES(LEGACY, 0) -> giving = LEGACY
        :: NOTES(NEW, 0) -> giving = NEW
#if SCOPES > 1
        :: NOTES(LEGACY, 1) -> giving = LEGACY; s = 1
        :: NOTES(NEW, 1) -> giving = NEW; s = 1
#endif
        fi;
        d_step { taking = OTHER(giving); READ_NOTES(me, NOTES(giving, s)); cares[me] = s }
       };
#ifdef READ_BEFORE_LOCK
       fresh[me] = ROW(giving, s);
#endif
       /* 2. In the taking store: begin, the fence's lock shared, then the scope's lock. */
#ifndef NO_CARRIER_FENCE
       if
       :: d_step { fenced[taking] == 0; shared[taking]++ }
       :: d_step { MAY(faults); PAY(faults); die() }; goto end_idle
       fi;
#endif
#ifndef NO_SCOPE_LOCK
       if
       :: d_step { LOCK(taking, s) == 0; LOCK(taking, s) = me + 1 }
       :: d_step {
            MAY(faults); PAY(faults);
#ifndef NO_CARRIER_FENCE
            shared[taking]--;
#endif
            die()
          }; goto end_idle
       fi;
#endif
       if  /* 3. Read the route there. */
#ifdef NO_ROUTE_CHECK
       :: true
#else
       :: AUTHORITY(taking, s) == giving
       :: AUTHORITY(taking, s) == taking ->
            /* The taking store has authority, its state goes the other way: the note is turned around. */
            d_step {
                SEEN(TURNED_AROUND);
#ifndef NO_TURNING
                NOTE(taking, s);
#endif
                release(); laws()
            };
            goto applied
#endif
       fi;
#ifndef READ_BEFORE_LOCK
       fresh[me] = ROW(giving, s);  /* 4. Read the giving store's row as it is now. */
#endif
#ifdef FORGET_FIRST
       d_step { forget() };
#endif
       /* 5. Make the taking store's row equal, and commit: the locks end here. No note: capture stands aside. */
       if
       :: d_step {
            ROW(taking, s) = fresh[me];
#ifdef ECHO
            NOTE(taking, s);
#endif
            release(); laws()
          }
       :: d_step { MAY(faults); PAY(faults); release(); die() }; goto end_idle
       fi;
applied:
       if  /* 6. Delete exactly the notes that were read. */
       :: d_step { forget(); rest() }
       :: d_step { MAY(faults); PAY(faults); die() }
       fi
    od
}

inline cut(o, st) {  /* the end of a transaction without COMMIT, whoever ended it: its locks are free */
    OPEN(o, st) = false;
    if :: fenced[st] == o + 1 -> fenced[st] = 0 :: else fi;
    if :: st == NEW && journal_lock == o + 1 -> journal_lock = 0 :: else fi
}

inline settle_journal() { pending = false; owner = 0; was = 0; will = 0 }

/* Connections break, servers restart, and a server ends what is idle in a transaction for too long. */
#if defined(BOUNDED) && !defined(NO_TIMEOUT)
#define TIMES_OUT(o, st) :: d_step { OPEN(o, st) && frozen[o]; cut(o, st) }
#else
#define TIMES_OUT(o, st)
#endif
#define BREAKS(o, st) :: d_step { OPEN(o, st) && MAY(faults); PAY(faults); cut(o, st) }
proctype cutter() {
end_idle:
    do
    BREAKS(0, LEGACY) TIMES_OUT(0, LEGACY)
    BREAKS(0, NEW) TIMES_OUT(0, NEW)
    BREAKS(1, LEGACY) TIMES_OUT(1, LEGACY)
    BREAKS(1, NEW) TIMES_OUT(1, NEW)
    od
}

#define MOVING(s) ((before <= s && s < after) || (after <= s && s < before))
#if SCOPES > 1
#define NOTED(st) ((MOVING(0) && NOTES(st, 0)) || (MOVING(1) && NOTES(st, 1)))
#else
#define NOTED(st) (NOTES(st, 0))
#endif

/* Takes the fence's lock of one store exclusively: it waits for every writer and carrier that holds it shared. In
   legacy this begins the transaction there; in new it is the one that holds the journal's row. */
#ifdef NO_FENCE
#define NOBODY_IN(st) true
#else
#define NOBODY_IN(st) (shared[st] == 0 && fenced[st] == 0)
#endif
#define TAKE_FENCE(st, UNLESS) \
    if \
    :: d_step { (st == LEGACY || OPEN(me, NEW)) && NOBODY_IN(st); fenced[st] = me + 1; OPEN(me, st) = true } \
    UNLESS \
    MAY_STAND_STILL \
    fi

inline roll_back() { cut(me, LEGACY); cut(me, NEW) }

inline leave() { roll_back(); before = 0; after = 0; loser = 0; gainer = 0 }
#define LEAVES_IF(condition) :: d_step { condition; leave() }; goto end_idle
#define FAILS_IF(condition) :: d_step { condition; roll_back() }; goto failed
#define MAY_DIE :: d_step { MAY(faults); PAY(faults); leave() }; goto end_idle

inline commit_route(st) { route[st] = after; cut(me, st) }

inline set_act(from, to) {
    before = from; after = to;
    loser = (after > before -> LEGACY : NEW); gainer = OTHER(loser)
}

/* Without bounds an operator that stands still is one that makes no step. With bounds every run goes on to its end, so
   standing still for ever must be said: only a server's time-out ends the transactions then. Nor may the recovery
   give up in vain there: what it waits for must come by itself. */
#ifdef BOUNDED
#define MAY_STAND_STILL :: d_step { MAY(faults); PAY(faults); frozen[me] = true }; goto still
#define RECOVERY_TIMES_OUT false
#else
#define MAY_STAND_STILL
#define RECOVERY_TIMES_OUT true
#endif

/* Whoever moves authority. Two of them at once, without the command's lock: that one is only a courtesy, and may be
   lost at any moment. Between any two steps an operator may stand still, its connections alive or cut. */
proctype operator(bit me) {
    byte before, after;
    bit loser, gainer;
#ifdef BOUNDED
    byte attempts;
#endif
end_idle:
    if
    :: pending -> goto resume
    :: atomic {  /* 2. Journal the intention, one transaction in new; at most one act is pending. */
        !pending && journal_lock == 0 && MAY(acts);
        if
        :: route[NEW] != 0 -> after = 0
        :: route[NEW] != 1 -> after = 1
#if SCOPES > 1
        :: route[NEW] != 2 -> after = 2
#endif
        fi;
        d_step {
            PAY(acts);
            pending = true; owner = me; was = route[NEW]; will = after;
            set_act(was, will);
#ifdef BOUNDED
            attempts = 0
#endif
        }
       }
    fi;

attempt:  /* 4. A transaction in new locks the journal's row, which must still say this act. */
    atomic {
        journal_lock == 0;
        if
#ifdef NO_ACT_CHECK
        :: true
#else
        :: pending && owner == me
#endif
            -> d_step { journal_lock = me + 1; OPEN(me, NEW) = true }
        :: else -> leave(); goto end_idle
        fi
    };
    TAKE_FENCE(loser, FAILS_IF(true));
    /* 5. Drain the moving scopes: the carriers do. Comparing them here would find nothing: that is a law. */
#ifndef NO_DRAIN
    if
    :: !NOTED(loser)
    FAILS_IF(true)
    MAY_STAND_STILL
    fi;
#endif
    /* 6. The gainer's fence: no carrier has an old row in hand for it. */
#ifdef NO_GAINER_FENCE
    if :: gainer == LEGACY -> OPEN(me, LEGACY) = true :: else fi;
#else
    TAKE_FENCE(gainer, FAILS_IF(true));
#endif
#if defined(RECORD) && !defined(IGNORE_GAINER)
    /* Nothing noted in the gainer either: that would be a rogue write, not yet undone. */
    if
    :: !NOTED(gainer)
    FAILS_IF(NOTED(gainer))
    fi;
#endif
#ifdef GAIN_FIRST
    d_step { loser = OTHER(loser); gainer = OTHER(gainer) };
#endif
    /* COMMIT where authority is lost. A COMMIT without an answer is not taken for a failure: the act stays pending. */
    if
    :: d_step { OPEN(me, loser); commit_route(loser); laws() }
#ifdef UNSURE_IS_FAILED
       if FAILS_IF(true) :: skip fi
#endif
    LEAVES_IF(!OPEN(me, loser))
    FAILS_IF(true)
    MAY_STAND_STILL
    fi;
    /* COMMIT where it is gained; in new this also finishes the journal. */
    if
    :: d_step {
        OPEN(me, gainer); commit_route(gainer);
        if :: gainer == NEW -> settle_journal(); SEEN(MOVED_UP) :: else fi;
        laws()
       }
    LEAVES_IF(!OPEN(me, gainer))
    MAY_DIE
    MAY_STAND_STILL
    fi;
    if
    :: gainer == NEW
    :: gainer == LEGACY -> if  /* a third transaction finishes it, unless someone else has */
        :: d_step {
            journal_lock == 0;
            if :: pending && owner == me -> settle_journal(); SEEN(MOVED_DOWN) :: else fi;
            laws()
           }
        MAY_DIE
        fi
    fi;
    d_step { leave() };
    goto end_idle;

failed:  /* 7. Nothing was committed: roll back, try again, at last give up; or die, and leave it to the next one. */
    if
#ifdef BOUNDED
    :: d_step { attempts < ATTEMPTS; attempts++ }; goto attempt
#else
    :: goto attempt
#endif
    :: d_step {
        journal_lock == 0;
        if :: pending && owner == me -> settle_journal(); SEEN(GIVEN_UP) :: else fi;
        laws(); leave()
       }
    MAY_DIE
    fi;
    goto end_idle;

resume:  /* Recovery: the journal's row, then the loser's fence, then the loser's route; never in another order. */
    atomic {
        journal_lock == 0;
        if
        :: pending -> d_step {
#ifndef NO_JOURNAL_LOCK
            journal_lock = me + 1;
#endif
            OPEN(me, NEW) = true; set_act(was, will)
           }
        :: else -> leave(); goto end_idle
        fi
    };
#ifndef UNDO_WITHOUT_FENCE
    TAKE_FENCE(loser, LEAVES_IF(RECOVERY_TIMES_OUT || (loser == NEW && !OPEN(me, NEW))));
#endif
    if
#ifndef UNDO_WITHOUT_FENCE
    LEAVES_IF(!OPEN(me, loser))
    :: OPEN(me, loser) && route[loser] == after
#else
    :: route[loser] == after
#endif
#ifdef FINISH_BLINDLY
    :: true
#else
    :: route[loser] != after ->  /* not moved, and nobody can move it any more: undone */
        if
        :: d_step { OPEN(me, NEW); settle_journal(); SEEN(UNDONE_LATER); laws(); leave() }
        LEAVES_IF(!OPEN(me, NEW))
        fi;
        goto end_idle
#endif
    fi;
    TAKE_FENCE(gainer, LEAVES_IF(RECOVERY_TIMES_OUT || (gainer == NEW && !OPEN(me, NEW))));
    /* The journal's row must still be held now that the gainer's fence is: else someone may have finished this act
       before, and begun another one. */
#ifndef STALE_FINISH
    if :: OPEN(me, NEW) LEAVES_IF(!OPEN(me, NEW)) fi;
#endif
    if
    :: gainer == NEW
    :: gainer == LEGACY -> if
        :: d_step { OPEN(me, LEGACY); commit_route(LEGACY); laws() }
        LEAVES_IF(!OPEN(me, LEGACY))
        MAY_STAND_STILL
        fi
    fi;
    if
    :: d_step {
        OPEN(me, NEW);
        if :: gainer == NEW -> route[NEW] = after :: else fi;
        settle_journal(); SEEN(FINISHED_LATER);
        laws(); leave()
       }
    LEAVES_IF(!OPEN(me, NEW))
    MAY_STAND_STILL
    fi;
    goto end_idle
#ifdef BOUNDED
    ;
still:
    atomic { !OPEN(me, LEGACY) && !OPEN(me, NEW); frozen[me] = false; leave() };
    goto end_idle
#endif
}

#ifdef BOUNDED
/* The fence always ends: when no process can make a step, every lock is free and no act is half done. Together with
   the absence of cycles (every run with bounded causes has an end) this needs no assumption of fairness. */
active proctype judge() {
    timeout ->
    assert(!pending && journal_lock == 0 && route[LEGACY] == route[NEW]);
    assert(fenced[LEGACY] == 0 && fenced[NEW] == 0 && shared[LEGACY] == 0 && shared[NEW] == 0);
    assert(NOTES(LEGACY, 0) == 0 && NOTES(NEW, 0) == 0 && ROW(LEGACY, 0) && ROW(NEW, 0));
#if SCOPES > 1
    assert(NOTES(LEGACY, 1) == 0 && NOTES(NEW, 1) == 0 && ROW(LEGACY, 1) && ROW(NEW, 1))
#endif
}
#endif

init {
    atomic {
        ROW(LEGACY, 0) = true; ROW(NEW, 0) = true;
#if SCOPES > 1
        ROW(LEGACY, 1) = true; ROW(NEW, 1) = true;
#endif
        run writer(LEGACY); run writer(NEW);
        run carrier(0);
#if CARRIERS > 1
        run carrier(1);
#endif
        run cutter();
        run operator(0);
#if OPERATORS > 1
        run operator(1);
#endif
#ifdef RECORD
        run rogue(LEGACY); run rogue(NEW)
#endif
    }
}
