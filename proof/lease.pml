/* The lease, epochs, handover and the life of an order as a Promela model, checked exhaustively by SPIN (proof/model.py).

A step of a process is what its event loop does without waiting, or one call into the kernel or the ledger; between two steps
anything may happen to anybody. A process that is paused is one that is not scheduled, so every pause is among the
interleavings. One slot and one window: two slots share nothing but the fence.

Two forms. ORDERS == 0: who takes and who yields, with the named one, delays, health, expiry, retirement: somebody trades
again. ORDERS > 0: the life of orders, where anybody may take a free lease at any time and the holder may yield after any poll
(all that the first form allows, and more), so that what holds here holds whoever is preferred.

Sizes: N instances, ORDERS order ids, DEATHS, REQUESTS (handover, then take-back), each a number.
Faults of the lock: REPLACE (the lease file is replaced once), OUTLIVE (an order's task outlives its epoch's yield).
GAP: between the last look before sending and the bytes' leaving there is a step; NO_I4: do not ask I4.
Mutants (each must be refuted): M_NO_FENCE, M_FENCE_READS_CURRENT, M_INTENT_AFTER_SEND, M_NEW_SALT, M_NOT_FOUND_IS_ABSENT,
M_LEASE_BY_CLOCK, M_STRICT_NAMED, M_NEEDS_LEASE, and of the
code's own checks M_SECOND_REFUSAL, M_ABANDON_SENT, M_PROBE_COUNTS. */

#define NOBODY 9
#define GHOST 8 /* an instance that is gone: an id is one process start */

/* what the ledger says of an intent */
#define ABSENT 0
#define OPEN 1      /* durable, no word of it yet: whoever did not sign it takes it for in doubt */
#define ACCEPTED 2
#define IN_DOUBT 3
#define REFUSED 4   /* terminal from here: the venue does not have it and never will */
#define ABANDONED 5 /* never sent */
#define DONE 6      /* the venue showed it */
#define EMPTY 7     /* its window has closed and the venue shows nothing */

/* where an order's task is */
#define IDLE 0
#define READY 1
#define LOOKED 2
#define WAITING 3

/* the kernel */
bool alive[N];
byte disk;      /* which file is the lease on disk */
byte owner[2];  /* who holds the flock of each file */
byte file[N];   /* which file an instance opened */

/* the ledger */
byte newest;
bool released;
byte spent;     /* bit r: request r was used by a yield */

/* the instances */
bool healthy[N];
bool retired[N];
bool holds[N];   /* believes that it holds the lease */
byte mine[N];    /* its epoch */

/* the deployer's document */
byte wanted = NOBODY;
byte request;
bool expired;

#if ORDERS > 0
byte state[ORDERS];
byte intent_of[ORDERS]; /* the intent that an order belongs to */
bool venue[ORDERS];     /* the venue has it */
byte network[ORDERS];   /* bit 0: the first sending, bit 1: an identical one; outlives every process */
byte used;
bool closed;            /* the window; the venue accepts nothing of it any more */

byte at[N];             /* the task of each instance: where it is, its order, its decision's epoch */
byte order_of[N];
byte epoch_of[N];
bool first[N];          /* these bytes were never sent before, by anybody */
byte answer[N];         /* 0 none, 1 accepted, 2 refused */
#define COPY(me) (first[me] -> 1 : 2)
#endif

byte deaths = DEATHS;
#ifdef REPLACE
bool replaceable = true;
#endif

/* The fence: the trigger on every row. `own` is the epoch of the decision. */
#ifdef M_NO_FENCE
#define FENCE(own) true
#else
#ifdef M_FENCE_READS_CURRENT
#define FENCE(own) (!released)
#else
#define FENCE(own) (own == newest && !released)
#endif
#endif
/* I1: no row of an epoch that is not the newest, none after its release. */
#define I1(own) assert(own == newest && !released)

#ifdef NO_I4
#define I4(own) skip
#else
#define I4(own) assert(own == newest)
#endif

#ifdef M_NEEDS_LEASE
#define READY_TO_TAKE(me) (holds[me])
#else
#define READY_TO_TAKE(me) (healthy[me])
#endif

#ifdef M_STRICT_NAMED
#define MAY_TAKE(me) (wanted == NOBODY || wanted == me)
#else
#define MAY_TAKE(me) true
#endif

#define UNLOCK(me) if :: owner[file[me]] == me -> owner[file[me]] = NOBODY :: else fi

#define TRADES(i) (alive[i] && holds[i] && mine[i] == newest && !released)

#if N == 3
#define ANOTHER_STANDS_BY(me) ((me != 0 && alive[0] && healthy[0] && !retired[0]) \
 || (me != 1 && alive[1] && healthy[1] && !retired[1]) || (me != 2 && alive[2] && healthy[2] && !retired[2]))
#define SOMEBODY_TRADES (TRADES(0) || TRADES(1) || TRADES(2))
#define HOLDERS (holds[0] + holds[1] + holds[2])
#else
#define ANOTHER_STANDS_BY(me) (alive[1 - me] && healthy[1 - me] && !retired[1 - me])
#define SOMEBODY_TRADES (TRADES(0) || TRADES(1))
#define HOLDERS (holds[0] + holds[1])
#endif

inline begin_epoch(me) {
  newest++;
  released = false;
  mine[me] = newest;
  holds[me] = true;
  waited = false;
#ifndef REPLACE
  assert(HOLDERS == 1); /* I1: no two processes ever hold the flock */
#endif
}

#if ORDERS > 0
/* One commit: intent and all. The trigger refuses it where something is open in the slot. */
inline add_intent(o, key, own) {
  I1(own);
  state[o] = OPEN;
  intent_of[o] = key
}

inline note(o, what, own) {
  if
  :: FENCE(own) && state[o] <= IN_DOUBT -> I1(own); state[o] = what
  :: else
  fi
}

#if ORDERS == 2
#define NOTHING_OPEN (state[0] == ABSENT || state[0] > IN_DOUBT) && (state[1] == ABSENT || state[1] > IN_DOUBT)
#else
#define NOTHING_OPEN (state[0] == ABSENT || state[0] > IN_DOUBT)
#endif

inline forget_task(me) {
  at[me] = IDLE; order_of[me] = 0; epoch_of[me] = 0; first[me] = false; answer[me] = 0
}

inline begin_task(me, o, is_first) {
  order_of[me] = o;
  epoch_of[me] = mine[me];
  first[me] = is_first;
  answer[me] = 0;
  at[me] = READY
}

/* A poll decides: sign, make durable, let it be sent. */
inline place(me) {
  if
  :: at[me] == IDLE && used < ORDERS && NOTHING_OPEN && !closed && FENCE(mine[me]) ->
#ifdef M_INTENT_AFTER_SEND
     intent_of[used] = used;
#else
     add_intent(used, used, mine[me]);
#endif
     begin_task(me, used, true);
     used++
  :: true
  fi
}

/* What the venue shows of an open order that no task is busy with; not finding it proves nothing. */
inline settle(me, o) {
  if
  :: state[o] >= OPEN && state[o] <= IN_DOUBT && !(at[me] != IDLE && order_of[me] == o) ->
     if
     :: venue[o] -> note(o, DONE, mine[me])
     :: !venue[o] && closed -> note(o, EMPTY, mine[me])
     :: !venue[o] && !closed ->
#ifdef M_NOT_FOUND_IS_ABSENT
        note(o, REFUSED, mine[me])
#else
        skip
#endif
     :: !closed && at[me] == IDLE && state[o] != ACCEPTED && !(network[o] & 2) && FENCE(mine[me]) ->
#ifdef M_NEW_SALT
        if
        :: used < ORDERS -> state[used] = OPEN; intent_of[used] = intent_of[o]; begin_task(me, used, false); used++
        :: else
        fi
#else
        begin_task(me, o, false) /* the identical bytes again */
#endif
     fi
  :: else
  fi
}

inline leave(me) {
  I4(epoch_of[me]);
#ifndef M_INTENT_AFTER_SEND
  assert(state[order_of[me]] != ABSENT); /* I3: an intent is committed before */
#endif
  network[order_of[me]] = network[order_of[me]] | COPY(me);
  at[me] = WAITING
}

proctype task(byte me) {
end:
  do
  :: atomic { at[me] == READY -> /* the last look before bytes leave */
       if
       :: FENCE(epoch_of[me]) -> at[me] = LOOKED
#ifndef GAP
          ; leave(me)
#endif
       :: else -> forget_task(me)
       fi
     }
#ifdef GAP
  :: atomic { at[me] == LOOKED -> leave(me) }
#endif
#ifdef M_INTENT_AFTER_SEND
  :: atomic { at[me] == WAITING && state[order_of[me]] == ABSENT && FENCE(epoch_of[me]) ->
       add_intent(order_of[me], order_of[me], epoch_of[me]) }
#endif
  :: atomic { at[me] == WAITING -> /* an answer, or none in time */
       if
       :: answer[me] == 1 -> note(order_of[me], ACCEPTED, epoch_of[me])
       :: answer[me] == 2 ->
          if
#ifdef M_SECOND_REFUSAL
          :: true -> note(order_of[me], REFUSED, epoch_of[me])
#else
          :: first[me] -> note(order_of[me], REFUSED, epoch_of[me])
          :: else /* refusing the second sending says nothing of the first */
#endif
          fi
       :: true -> note(order_of[me], IN_DOUBT, epoch_of[me])
       fi;
       forget_task(me)
     }
  od
}

inline tell(i, o, nth, what) {
  if
  :: at[i] == WAITING && order_of[i] == o && COPY(i) == nth -> answer[i] = what
  :: else
  fi
}

/* I3 and I5: an order arrives only where its intent is durable and not said to be out of the world, and is its only one. */
inline arrive(o, nth) {
  network[o] = network[o] & (3 - nth);
  if
  :: !closed ->
     assert(state[o] != ABSENT && state[o] != REFUSED && state[o] != ABANDONED && state[o] != EMPTY);
#if ORDERS == 2
     assert(!(venue[1 - o] && intent_of[0] == intent_of[1]));
#endif
     venue[o] = true;
     tell(0, o, nth, 1); tell(1, o, nth, 1)
  :: !venue[o] || closed -> tell(0, o, nth, 2); tell(1, o, nth, 2)
  fi
}

/* The network and the venue: whatever left may arrive, at any time, whoever lives; a request may also be lost for good. */
active proctype wire() {
end:
  do
  :: atomic { network[0] & 1 -> arrive(0, 1) }
  :: atomic { network[0] & 2 -> arrive(0, 2) }
#if ORDERS == 2
  :: atomic { network[1] & 1 -> arrive(1, 1) }
  :: atomic { network[1] & 2 -> arrive(1, 2) }
#endif
  :: !closed -> closed = true
  od
}
#endif

proctype instance(byte me) {
  bool waited;
life:
  {
    atomic { healthy[me] = true; waited = false }; /* warming: the first healthy poll needs no lease */
standby:
    do
    :: atomic { !retired[me] && READY_TO_TAKE(me) && MAY_TAKE(me) && owner[disk] == NOBODY -> file[me] = disk };
       if
       :: atomic { owner[file[me]] == NOBODY -> owner[file[me]] = me }
       :: atomic { owner[file[me]] != NOBODY ->
            if
#ifdef M_PROBE_COUNTS
            :: true -> waited = false
#else
            :: holds[owner[file[me]]] -> waited = false /* somebody took it; another's trying, too short to be seen twice, is none */
            :: else
#endif
            fi;
            goto standby }
       fi;
       if
       :: atomic { retired[me] || file[me] != disk || !MAY_TAKE(me) -> UNLOCK(me); waited = false }
#if ORDERS == 0
       :: atomic { !(retired[me] || file[me] != disk || !MAY_TAKE(me)) && wanted != me && !waited ->
            UNLOCK(me); waited = true } /* free, but others come first: a delay, and never more */
#endif
       :: atomic { !(retired[me] || file[me] != disk || !MAY_TAKE(me)) &&
            (ORDERS > 0 || wanted == me || waited || wanted == NOBODY || expired) -> /* nobody named: the confirmed waits not */
            begin_epoch(me) };
          goto active_
       fi
#ifdef M_LEASE_BY_CLOCK
    :: atomic { !retired[me] && owner[disk] != NOBODY && owner[disk] != me -> begin_epoch(me) }; goto active_
#endif
    od;
active_:
    do
    :: atomic { /* a poll: the lease is the file on disk, the rows are accepted, orders are decided; then a look whether to yield */
         if
         :: file[me] != disk || !FENCE(mine[me]) -> goto give_back
         :: else
         fi;
         I1(mine[me]); /* the poll's own rows */
#if ORDERS > 0
         settle(me, 0);
#if ORDERS == 2
         settle(me, 1);
#endif
         place(me);
         if
         :: request < REQUESTS -> request++; break
         :: true
         fi
#else
         if
         :: wanted < N && wanted != me && !expired && !(spent & (1 << request)) ->
            if
            :: alive[wanted] && READY_TO_TAKE(wanted) && !retired[wanted] -> break
            :: else
            fi
         :: else
         fi
#endif
       }
    od;
#if ORDERS > 0
    /* Yielding: the order tasks are waited for, within a limit, and cut; what was not sent is abandoned. */
    atomic {
      if
      :: at[me] != IDLE && epoch_of[me] == mine[me] ->
         if
         :: at[me] == READY && first[me] -> note(order_of[me], ABANDONED, mine[me]); forget_task(me)
#ifdef M_ABANDON_SENT
         :: at[me] == LOOKED || at[me] == WAITING -> note(order_of[me], ABANDONED, mine[me]); forget_task(me)
#endif
         :: !(at[me] == READY && first[me]) -> forget_task(me)
#ifdef OUTLIVE
         :: true /* it goes on */
#endif
         fi
      :: else
      fi
    };
#endif
    atomic {
      if
      :: FENCE(mine[me]) -> I1(mine[me]); released = true
#if ORDERS == 0
         ; spent = spent | (1 << request)
#endif
      :: else
      fi
    };
give_back:
    atomic {
      holds[me] = false;
      waited = false;
      UNLOCK(me);
#if ORDERS > 0
      if
      :: at[me] != IDLE && epoch_of[me] == mine[me] ->
#ifdef OUTLIVE
         if :: forget_task(me) :: true fi
#else
         forget_task(me)
#endif
      :: else
      fi;
#endif
      mine[me] = 0
    };
    goto standby
  } unless { !alive[me] };
  /* started again, as another instance; one that was retired is not */
  if
  :: atomic { !retired[me] -> alive[me] = true }; goto life
  :: retired[me] -> skip
  fi
}

/* Deaths: at any step of anybody. The kernel frees the lock, and tasks die with their process; the network does not. */
inline die(i) {
  alive[i] = false;
  healthy[i] = false;
  holds[i] = false;
  if :: owner[0] == i -> owner[0] = NOBODY :: else fi;
  if :: owner[1] == i -> owner[1] = NOBODY :: else fi;
  if :: wanted == i -> wanted = GHOST :: else fi;
#if ORDERS > 0
  forget_task(i);
#endif
  file[i] = 0;
  mine[i] = 0;
  deaths--
}

active proctype fate() {
end:
  do
  :: atomic { deaths > 0 && alive[0] -> die(0) }
  :: atomic { deaths > 0 && alive[1] -> die(1) }
#if N == 3
  :: atomic { deaths > 0 && alive[2] -> die(2) }
#endif
#ifdef REPLACE
  :: atomic { replaceable -> replaceable = false; disk = 1 }
#endif
  od
}

#if ORDERS == 0
/* The deployer: asks for a handover, and for the lease back; a request expires; blue is retired. It may die for good at any step. */
active proctype deployer() {
end:
  do
  :: atomic { request < REQUESTS -> request++; expired = false; if :: wanted = 0 :: wanted = 1 fi }
  :: atomic { request > 0 && !expired -> expired = true }
  :: atomic { request > 0 && !retired[0] && !retired[1] && !holds[0] && ANOTHER_STANDS_BY(0) -> retired[0] = true }
  :: atomic { request > 0 && !retired[0] && !retired[1] && !holds[1] && ANOTHER_STANDS_BY(1) -> retired[1] = true }
  :: request > 0 -> break
  od
}
#endif

init {
  atomic {
    owner[0] = NOBODY; owner[1] = NOBODY;
    alive[0] = true; alive[1] = true;
    run instance(0); run instance(1);
#if N == 3
    alive[2] = true;
    run instance(2);
#endif
#if ORDERS > 0
    run task(0); run task(1);
#endif
  }
}

#ifdef AGAIN
/* Whoever died and whatever was asked for: as long as there are processes, somebody trades again, without a deployer. */
ltl again { [] <> SOMEBODY_TRADES }
#endif
