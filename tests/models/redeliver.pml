/* A queue with `redeliver` (channels/redeliver.c): one message E, a block X that goes along with it, receivers that die or close their
   channel with the message in hand, reapers that die, and somebody who retires the lane when it is empty and nobody has it open.
     claim     E SENT in the ring, or KEPT  ->  OWNED, lent (COMMIT); its count; X SENT for E -> OWNED
     release   X, then E, is freed; X may also be moved on, which acknowledges the message
     reaper    home's gate += 1, RETIRED: no home; X OWNED by the dead -> SENT for E, elsewhere: E is freed;
               returned := set; E -> KEPT (COMMIT); returned := set
     receiver  returned is set: E KEPT -> OWNED, lent; not KEPT: CAS returned -> clear. Handed out 1 + N times: into the lane of the dead
     closer    gate; nobody has it open; returned is clear and the ring is empty; CAS gate -> RETIRED
   A sweep is over (its dead have nothing open any more) only when it has gone through; who dies in it is swept up after.

   Checked: nobody gets E without X; it is handed out at most 1 + N times, to one living receiver at a time; at the end E is freed, with the
   dead, or waits where somebody looks for it.
   Variants that must fail:
     -DSET_ONCE     the reaper sets `returned` before KEPT only
     -DNO_GATE      the reaper leaves the gate alone: the closer may retire the lane between its look and its CAS
     -DBLIND_CLEAR  a receiver that finds nothing clears `returned` whatever it says by then
     -DNO_REMIND    a sweep does not look after messages that another reaper made KEPT
     -DX_STAYS      the reaper leaves X with its dead receiver: the sweep frees it */
#ifndef KILLS
#define KILLS 2
#endif
#ifndef N
#define N 1
#endif
#define FREE 0
#define SENT 1                    /* linked, or not: then on its way into the lane of the dead */
#define OWNED 2
#define KEPT 3
#define GONE 4                    /* X: somewhere else; E: with the dead letters */
#define R 2                       /* receivers 0 and 1 */
#define W 2                       /* the reaper that may die */
byte es=SENT, eo=9, times;        /* E */
byte bs=SENT, bo=9;               /* X */
bool linked=1, set;
byte told;                        /* `returned` is (told, set) */
byte gate; bool retired, leased[2]; /* leased: a reaper's lease on the lane */
bool dead[3], open[R], swept[3];
byte handed; bool has[R];         /* ghosts */

#define SET atomic { set=1; told++ }
inline claimed(p) {
  times++;
  if :: times>N+1 ->                                                         /* too often: bury */
        es=SENT; atomic { es=GONE }                                          /* link it there: COMMIT */
     :: else ->
        atomic { assert(bs==SENT); bs=OWNED; bo=p; has[p]=1; handed++; assert(handed<=N+1 && !(has[0] && !dead[0] && has[1] && !dead[1])) };
        if :: open[p]=0 :: skip fi;                                          /* the channel may be closed first */
        if :: skip :: atomic { bs=GONE; bo=9 } fi;                           /* X may move on */
        atomic { if :: bs==OWNED && bo==p -> bs=FREE; bo=9 :: else fi };
        atomic { assert(es==OWNED && eo==p); es=FREE; eo=9; has[p]=0 }
  fi }
proctype Receiver(byte p) { byte v; bool f;
  { do
    :: !open[p] -> break
    :: open[p] && linked && es==SENT ->
       if :: atomic { linked && es==SENT -> es=OWNED; eo=p; linked=0 }; claimed(p) :: else fi
    :: open[p] && set -> v=told; f=(es==KEPT);
       if :: f -> if :: atomic { es==KEPT -> es=OWNED; eo=p }; claimed(p) :: else fi
          :: else ->
#ifdef BLIND_CLEAR
             set=0
#else
             atomic { if :: told==v -> set=0 :: else fi }
#endif
       fi
    :: open[p] -> open[p]=0                                                  /* closes */
    od } unless { dead[p] } }

inline put(who) {
  leased[next]=1;
#ifdef NO_GATE
  home=!retired;
#else
  atomic { gate++; home=!retired };
#endif
  if
  :: home ->
#ifndef X_STAYS
     atomic { if :: bs==OWNED && bo==who -> bs=SENT; bo=9 :: else fi };
#endif
     back=(bs!=GONE && bs!=FREE);
     if :: back ->
           SET;
           atomic { if :: es==OWNED && eo==who -> es=KEPT; eo=9 :: es==SENT && eo==who && !linked -> es=KEPT; eo=9 :: else fi };
#ifndef SET_ONCE
           SET
#else
           skip
#endif
        :: else -> atomic { if :: es==OWNED && eo==who -> es=FREE; eo=9 :: else fi }
     fi
  :: else -> atomic { if :: (es==OWNED || es==SENT) && eo==who -> es=FREE; eo=9; if :: bs==SENT -> bs=FREE :: else fi :: else fi }
  fi;
  leased[next]=0 }
inline sweep(who) {
  atomic { mine=(eo==who && (es==OWNED || es==SENT)); kept=(es==KEPT) };
  if :: mine -> put(who)
#ifndef NO_REMIND
     :: !mine && kept -> home=!retired; if :: home -> SET :: else fi
#endif
     :: else fi;
  atomic { if :: bs==OWNED && bo==who -> bs=FREE; bo=9 :: else fi };
  atomic { swept[who]=1; if :: who<R -> open[who]=0 :: else -> leased[0]=0 fi; home=0; back=0; mine=0; kept=0 } }
proctype Reaper(bool next) { bool home, back, mine, kept;
  { next==0 || dead[W];
end_w:
    do
    :: atomic { dead[0] && !swept[0] }; sweep(0)
    :: atomic { dead[1] && !swept[1] }; sweep(1)
    :: atomic { next && !swept[W] }; sweep(W)
    od } unless { dead[W] && !next } }

proctype Closer() { byte g; bool free;
end_c: do
  :: !retired && !open[0] && !open[1] ->
     g=gate;
     free=(!open[0] && !open[1] && !leased[0] && !leased[1]);
     if :: free -> free=!set :: else fi;
     if :: free -> free=!linked :: else fi;
     if :: free -> atomic { if :: gate==g -> retired=1 :: else fi } :: else fi
  od }
proctype Adv() { byte k;
end_a: do :: k<KILLS -> atomic { k++; if :: dead[0]=1 :: dead[1]=1 :: dead[W]=1 fi } :: break od }
init { atomic { open[0]=1; open[1]=1; run Receiver(0); run Receiver(1); run Reaper(0); run Reaper(1); run Closer(); run Adv() };
  timeout -> assert(es==FREE || es==GONE || (es==SENT && linked && !retired) || (es==KEPT && set && !retired));
             assert(es!=FREE || bs==FREE || bs==GONE); assert(es!=GONE || bs==SENT) }
