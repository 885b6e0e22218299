/* The limits of a mailbox and the wake-ups on both sides of it: what mailbox.pml leaves out. Two senders, one receiver that does
   not die; a sender may stop for ever (STOPS). The chain itself is a count here: a position is a message.

   A sender keeps a copy of `consumed` and loads the real one, after the head, only when the copy says full; it sleeps on the
   word whose FULL-WAIT it set. The receiver wakes all of them once a quarter is free. A sender that sees SLEEP wakes the
   receiver, unless its last wake-up was for a position that is not counted yet: then the receiver has not slept since.

   Checked: never more than CAP wait; at the end everything is delivered and every sender is through, unless one was stopped
   between its push and its wake-up, then only its own messages may wait.

   Variants that must fail:
     -DUNSIGNED    the difference of head and consumed is unsigned: a head that is behind reads as full
     -DNO_RECHECK  FULL-WAIT is set without comparing the count
     -DWAKE_ONCE   a sender that has woken the receiver never does again */
#ifndef CAP
#define CAP 1
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef M1
#define M1 3
#endif
#ifndef M2
#define M2 2
#endif
#ifdef UNSIGNED
#define FULL(h, c) (h < c || h - c >= CAP)
#else
#define FULL(h, c) (h - c >= CAP)
#endif

byte hs, cons; bool hsl, fw;     /* head: position, SLEEP; consumed: position, FULL-WAIT */
bool rasleep, sasleep[2], fin[2], stopped[2];
byte by[12];                     /* ghost: who pushed a position, plus 1 */

proctype Sender(byte me; byte n) {
  byte h, c, k, w, cc; bool sl, f;
  {
  do
  :: k < n ->
     atomic { h = hs; sl = hsl };                               /* load head */
     if
     :: FULL(h, cc) || h < cc ->                                /* the copy says full, or is from long ago */
        atomic { c = cons; f = fw };                            /* load consumed, after the head */
        cc = c;
        if
        :: FULL(h, c) ->
#ifdef NO_RECHECK
           fw = 1;
           if :: atomic { fw -> sasleep[me] = 1 } -> !sasleep[me] :: else fi;
#else
           if
           :: atomic { cons == c && fw == f -> fw = 1 } ->      /* CAS consumed */
              if
              :: atomic { cons == c && fw -> sasleep[me] = 1 } -> !sasleep[me]   /* FUTEX_WAIT */
              :: else
              fi
           :: else
           fi;
#endif
           goto again
        :: else
        fi
     :: else
     fi;
     if
     :: atomic { hs == h && hsl == sl -> hs = h + 1; by[hs] = me + 1; assert(hs - cons <= CAP) } ->   /* CAS head: COMMIT */
        k++;
        if
        :: sl ->
           c = cons;
#ifdef WAKE_ONCE
           if :: w > 0 :: else -> rasleep = 0; w = h + 1 fi
#else
           if :: w > c && w <= h + 1 :: else -> rasleep = 0; w = h + 1 fi        /* FUTEX_WAKE, then it is noted */
#endif
        :: else
        fi
     :: else
     fi;
again: atomic { h = 0; sl = 0; c = 0; f = 0 }
  :: else -> break
  od;
  fin[me] = 1
  } unless { stopped[me] }
}

proctype Receiver() {
  byte h, c; bool f, sl;
end_loop:
  do
  :: atomic { h = hs; sl = hsl };
     if
     :: h == c ->
        if
        :: atomic { hs == h && hsl == sl -> hsl = 1 } ->        /* CAS head */
           if
           :: atomic { hs == h && hsl -> rasleep = 1 } ->
end_sleep:    !rasleep
           :: else
           fi;
           hsl = 0
        :: else
        fi
     :: else ->
        do
        :: c < h ->
           atomic { c++; cons = c; f = fw };                    /* hand out; fetch_add */
           if
           :: f ->
              h = hs;
              if :: (h - c) * 4 <= CAP * 3 -> fw = 0; atomic { sasleep[0] = 0; sasleep[1] = 0 } :: else fi
           :: else
           fi
        :: else -> break
        od
     fi;
     atomic { h = 0; f = 0; sl = 0 }
  od
}

proctype Adversary() {
  byte z = 0;
end_a:
  do
  :: z < STOPS -> atomic { z++; if :: !fin[0] -> stopped[0] = 1 :: !fin[1] -> stopped[1] = 1 fi }
  :: break
  od
}

byte gi;
init {
  atomic { run Sender(0, M1); run Sender(1, M2); run Receiver(); run Adversary() };
  timeout ->
  d_step {
    assert(fin[0] || stopped[0] || stopped[1]);
    assert(fin[1] || stopped[1] || stopped[0]);
    gi = cons + 1;
    do
    :: gi <= hs -> assert((by[gi] == 1 && stopped[0]) || (by[gi] == 2 && stopped[1])); gi++
    :: else -> break
    od
  }
}
