/* Shutting a queue (cue_channel_shut). Senders look whether it is shut, put their message into the ring, look again, and if it is shut by then
   take it out as a receiver would, by a compare-and-swap of its record. The receiver shuts it, then looks at the slots until it finds none
   that holds a message, and is done. Anybody may die, or stop for ever, between two steps. The ring is long enough here: laps are queue.pml's.

   Checked: what was reported as sent before the receiver is done was received by then, once; what is reported as refused never is
   received; when the receiver is done, only a sender that is dead or held may have something in the ring, and it has not reported it.
   Variants that must fail:
     -DNO_LOOK      a sender does not look again after it has put its message in
     -DLOOK_FIRST   the receiver looks at the slots before it shuts the queue
     -DNO_CLAIM     a sender takes its message out by clearing the slot instead of claiming the record */
#ifndef KILLS
#define KILLS 1
#endif
#define N 4
#define FREE 0
#define OWNED 1
#define SENT 2
#define NONE 0
#define REFUSED 1
#define REPORTED 2
bool shut, done, held[3], fin[2];
byte slot[N];                          /* record + 1, 0: empty */
byte tail, head;
byte st[4], said[4], seen[4];          /* a record a message: sender * 2 + k */

proctype Sender(byte me) { byte k, p, r;
  { do
    :: k < 2 ->
       r = me*2 + k;
       if
       :: shut -> said[r] = REFUSED
       :: !shut ->
          st[r] = SENT;
          do
          :: p = tail;
             if :: atomic { p < N && slot[p] == 0 && tail == p -> slot[p] = r+1; tail = p+1 } -> break    /* COMMIT */
                :: else
             fi
          od;
#ifndef NO_LOOK
          if
          :: shut ->
#ifdef NO_CLAIM
             if :: atomic { slot[p] == r+1 -> slot[p] = 0 } -> said[r] = REFUSED :: else -> said[r] = REPORTED fi
#else
             if :: atomic { st[r] == SENT -> st[r] = FREE } -> said[r] = REFUSED                          /* withdrawn */
                :: else -> said[r] = REPORTED fi
#endif
          :: else -> said[r] = REPORTED
          fi
#else
          said[r] = REPORTED
#endif
       fi;
       k++
    :: else -> break
    od; fin[me] = 1
  } unless { held[me] } }

inline take_all() {
    do
    :: head < tail ->
       h = slot[head];
       if
       :: h != 0 ->
          if :: atomic { st[h-1] == SENT -> st[h-1] = OWNED; seen[h-1]++; assert(seen[h-1] == 1); assert(said[h-1] != REFUSED) } :: else fi
       :: else
       fi;
       head++
    :: else -> break
    od }

proctype Receiver() { byte h;
  { if :: true -> take_all() :: true fi;
#ifdef LOOK_FIRST
    take_all();
    shut = 1;
#else
    shut = 1;                                                                                             /* COMMIT */
    take_all();
#endif
    done = 1
  } unless { held[2] } }

proctype Adv() { byte k;
end_a: do :: k < KILLS -> atomic { k++; if :: !fin[0] -> held[0] = 1 :: !fin[1] -> held[1] = 1 :: !done -> held[2] = 1 :: true fi } :: break od }

byte i;
init { atomic { run Sender(0); run Sender(1); run Receiver(); run Adv() };
  timeout -> atomic { i = 0;
    do
    :: i < 4 ->
       assert(!(said[i] == REFUSED && seen[i]));
       assert(!(done && said[i] == REPORTED && !seen[i]));
       assert(!(done && st[i] == SENT && !held[i/2]));
       i++
    :: else -> break
    od } }
