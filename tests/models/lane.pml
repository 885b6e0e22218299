/* A lane's name, between those who open it and the last one out, who frees it (channels/lane.c). A lease bit a party; `gate` counts opens
   and has the flag RETIRED.
     open:   find it KEPT; bit up, still KEPT? gate += 1: RETIRED -> help to free it, bit down, open anew; else it is open
     close:  closed += 1; bit down; then retire
     retire: while nobody's bit is up: bit up; c = closed; g = gate; another's bit is up -> bit down, look again; not empty -> bit down,
             look again if c is not `closed` any more, else leave; CAS gate g -> RETIRED, failed -> look again; free it; bit down
     recovery of p: retire without counting p's bit; clear p's bit; closed += 1, under a lease; retire once more: somebody who closed in
             between saw p's bit, and somebody who found a message that p then took saw no close
   Whoever has it open may send (it stays for its messages) and receive.
   -DTHREADS=2: the two are threads of one process, which dies as one; 3: and a third one is another process (too much to search with kills). Threads share their party's
   bit, so `held` counts privately who of them has a lease; taking and dropping one are under a lock of the process, so one step
   for its threads (pool/lease.c). Only the thread that clears the bit retires, and who retires looks whether its lease is the only one.

   Any process may be killed between two steps, the reaper comes then.
   Checked: a lane that a living party has open, or with messages in it, is never freed; at the end no lane is left without messages.
   Variants that must fail:
     -DNO_GATE      retiring does not compare the gate
     -DNO_LOOK      retiring looks at the bits only before it takes its own lease
     -DEMPTY_FIRST  it looks whether it is empty before it looks at the bits
     -DNO_COUNT     who finds a message while its own bit is up leaves without a look at `closed`: somebody who took the message and
                    closed meanwhile saw that bit
     -DDEAD_UNCOUNTED  recovery does not count
     -DCOUNT_EARLY  it looks at `closed` before it has let go
     -DONE_RETIRE   recovery does not look again after it has cleared the bit
     -DBIT_ONLY     with threads: who retires takes the bit of its party for its own */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#define NP 3
#define R 2                       /* the reaper's slot */
#define NL (2*ROUNDS+3)
bool kept[NL], retired[NL], bit_[NL*NP]; byte gate[NL], msgs[NL], closed[NL];
byte name, nlanes;
#ifdef THREADS
#define T THREADS
#define PARTY(t) ((t)/2)
byte held[NL*NP];                 /* private to the party */
#define TAKE(l,p)  atomic { held[(l)*NP+(p)]++; BIT(l,p)=1 }
#define DROP(l,p)  atomic { held[(l)*NP+(p)]--; BIT(l,p)=held[(l)*NP+(p)]!=0 }
#ifdef BIT_ONLY
#define ALONE(l,p) 1
#else
#define ALONE(l,p) (held[(l)*NP+(p)]==1)
#endif
#define NONE_HERE(l,p) (held[(l)*NP+(p)]==0)
#else
#define T 2
#define PARTY(t) (t)
#define TAKE(l,p)  BIT(l,p)=1
#define DROP(l,p)  BIT(l,p)=0
#define ALONE(l,p) 1
#define NONE_HERE(l,p) 1
#endif
byte user[3];                     /* ghost: the lane that this thread has open */
bool dead[NP], fin[3];
#define BIT(l,p) bit_[(l)*NP+(p)]
#define OTHERS(l,me,gone) ((me!=0 && gone!=0 && BIT(l,0)) || (me!=1 && gone!=1 && BIT(l,1)) || (me!=2 && gone!=2 && BIT(l,2)))
#define USED(l) ((user[0]==(l) && !dead[PARTY(0)]) || (user[1]==(l) && !dead[PARTY(1)]) || (T==3 && user[2]==(l) && !dead[1]))
#define NONE 9

inline free_lane(l) { atomic { if :: kept[l] -> assert(!USED(l) && msgs[l]==0); kept[l]=0 :: else fi } }   /* KEPT -> DOOMED, CAS */
inline retire(l, me, gone) {
  do
  :: OTHERS(l, NONE, gone) -> break
  :: else ->
     if :: !kept[l] -> break :: else fi;
     TAKE(l,me);                                                        /* lease_take */
     if :: !kept[l] -> DROP(l,me); break :: else fi;
     c=closed[l];
     atomic { g=gate[l]; z=retired[l] };
     if
     :: z -> free_lane(l); DROP(l,me); break
     :: else ->
#ifdef EMPTY_FIRST
        if :: msgs[l] -> DROP(l,me); if :: c==closed[l] -> break :: else -> goto again fi :: else fi;
#endif
#ifndef NO_LOOK
        if :: OTHERS(l, me, gone) -> DROP(l,me); goto again :: else fi;
        if :: !ALONE(l,me) -> DROP(l,me); goto again :: else fi;
#endif
#ifdef NO_COUNT
        if :: msgs[l] -> DROP(l,me); break :: else fi;
#elif defined(COUNT_EARLY)
        if :: msgs[l] -> if :: c==closed[l] -> DROP(l,me); break :: else -> DROP(l,me); goto again fi :: else fi;
#elif !defined(EMPTY_FIRST)
        if :: msgs[l] -> DROP(l,me); if :: c==closed[l] -> break :: else -> goto again fi :: else fi;
#endif
#ifdef NO_GATE
        if :: atomic { !retired[l] -> retired[l]=1 } ->
#else
        if :: atomic { gate[l]==g && !retired[l] -> retired[l]=1 } ->   /* CAS: COMMIT */
#endif
              free_lane(l); DROP(l,me); break
           :: else -> DROP(l,me)
        fi
     fi;
again: skip
  od }
proctype Proc(byte t) { byte l, n, g, c, me=PARTY(t); bool z, last;
  {
  do
  :: n<ROUNDS -> n++;
     do                                                                 /* open */
     :: l=name;
        if
        :: !kept[l] ->
           if :: atomic { !kept[name] -> nlanes++; l=nlanes; kept[l]=1; TAKE(l,me); gate[l]=0; name=l; user[t]=l } -> break
              :: else fi
        :: else ->
           TAKE(l,me);
           if :: !kept[l] -> DROP(l,me)
              :: else ->
                 atomic { z=retired[l]; gate[l]++; if :: !z -> user[t]=l :: else fi };
                 if :: z -> free_lane(l); DROP(l,me) :: else -> break fi
           fi
        fi
     od;
     if :: msgs[l]++ :: msgs[l]>0 -> atomic { if :: msgs[l]>0 -> msgs[l]-- :: else fi } :: true fi;
     user[t]=0; closed[l]++; atomic { DROP(l,me); last=NONE_HERE(l,me) };                /* close */
     if :: last -> retire(l, me, NONE) :: else fi
  :: else -> break
  od; fin[t]=1
  } unless { dead[me] }; atomic { l=0; n=0; g=0; c=0; z=0; last=0 } }
proctype Reaper() { byte l, g, p, c; bool z, done[2];
end_w: do
  :: dead[0] && !done[0] -> p=0; goto sweep
  :: dead[1] && !done[1] -> p=1;
sweep:
     l=1; do :: l<=nlanes -> if :: kept[l] -> retire(l, R, p) :: else fi; l++ :: else -> break od;
     l=1; do :: l<=nlanes -> BIT(l,p)=0; l++ :: else -> break od;
#ifndef ONE_RETIRE
     l=1; do :: l<=nlanes -> if :: kept[l] ->
#ifndef DEAD_UNCOUNTED
                                               TAKE(l,R); if :: kept[l] -> closed[l]++ :: else fi; DROP(l,R);
#endif
                                               retire(l, R, NONE) :: else fi; l++ :: else -> break od;
#endif
     atomic { done[p]=1; p=0; l=0; g=0; c=0; z=0 }
  od }
proctype Adv() { byte k; end_a: do :: k<KILLS -> atomic { k++; if :: !(fin[0] && (PARTY(1)!=0 || fin[1])) -> dead[0]=1 :: PARTY(1)==1 && !fin[1] -> dead[1]=1 :: T==3 && !fin[2] -> dead[1]=1 fi } :: break od }
byte e;
init { atomic { run Proc(0); run Proc(1);
#if T==3
  run Proc(2);
#endif
  run Reaper(); run Adv() };
  timeout -> atomic { e=1; do :: e<=nlanes -> assert(!kept[e] || msgs[e]>0); e++ :: else -> break od } }
