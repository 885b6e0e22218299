/* The directory grows by levels: a key has a window in each level, and its slots are the union of its windows in all levels
   that are present. A level is made present (memory, then the level count `top`) when the windows before it are full; it stays.
   Publishing is as in dir.pml: claim an empty slot as PENDING, look at all other slots of the key, PENDING -> LIVE.

   What is new: the set of "all other slots" may grow between the choice of a slot and the look. So (1) `top` counts a level
   before any slot of that level is written, at any rate before its writer looks at the others; (2) a publisher loads `top` after its
   PENDING store and looks at every level up to it. Both are "my write, then your word" (seq_cst in the code). A finder loads `top` once, when it begins.

   Level 0 has one slot, which another key holds at first and gives up at any time; level 1 has a slot a publisher. Publishers of one
   key, each can halt for ever between any two steps. A finder begins when somebody has committed.
   Checked: never two LIVE; if a publisher ran to its end there is one; a finder that begins after a commit finds it.
   Variants that must fail:
     -DOLD_TOP       the publisher looks at the levels that it knew before its PENDING store
     -DCOUNT_LATE    the level is counted after the look, just before the commit
     -DFIND_OLD_TOP  the finder uses a level count that it read some time ago */
#ifndef HALTS
#define HALTS 1
#endif
#ifndef TRIES
#define TRIES 2
#endif
#ifndef NP
#define NP 2
#endif
#define NS (1+NP)                  /* slot 0 is level 0, the others level 1 */
#define OTHER 99                   /* LIVE for another key */
#define END(levels) ((levels)==1 -> 1 : NS)
byte sl[NS];                       /* 0 empty, 1+me pending, 10+me live, OTHER */
byte top=1;
bool halt[NP], done[NP]; byte live;

proctype Pub(byte me) { byte s, i, w, t, tries;
  {
  do
  :: atomic { tries<TRIES -> tries++; t=top };                       /* load top: where to look for room */
     s=NS;
     do                                                              /* claim: CAS EMPTY -> PENDING */
     :: atomic { sl[0]==0 -> sl[0]=1+me; s=0 }; break
     :: atomic { sl[0]!=0 -> skip };
#ifdef COUNT_LATE
        t=2;
#else
        if :: t==1 -> atomic { top=2; t=2 } :: else fi;              /* the level is counted first */
#endif
        if :: atomic { sl[1]==0 -> sl[1]=1+me; s=1 } :: atomic { sl[1]!=0 && sl[2]==0 -> sl[2]=1+me; s=2 }
#if NP==3
           :: atomic { sl[1]!=0 && sl[2]!=0 && sl[3]==0 -> sl[3]=1+me; s=3 }
#endif
           :: else fi;
        break
     od;
     if :: s==NS -> goto out :: else fi;                             /* no room at all: ELIMIT */
#if !defined(OLD_TOP) && !defined(COUNT_LATE)
     t=top;                                                          /* load top again: seq_cst, after PENDING */
#endif
     i=(s==0 -> 1 : 0);
     do
     :: i<END(t) ->
        if :: atomic { sl[i]==0 || sl[i]==OTHER -> i++; if :: i==s -> i++ :: else fi }
           :: atomic { sl[i]!=0 && sl[i]!=OTHER -> w=sl[i] } ->
              if :: w>=10 -> if :: atomic { sl[s]==1+me -> sl[s]=0 } :: else fi; done[me]=1; goto out   /* EEXIST */
                 :: else -> if :: atomic { sl[i]==w -> sl[i]=0 } :: else fi                             /* kill, look again */
              fi; w=0
        fi
     :: else -> break
     od;
#ifdef COUNT_LATE
     if :: s>0 -> top=2 :: else fi;
#endif
     if :: atomic { sl[s]==1+me -> sl[s]=10+me; live++; assert(live==1) }; done[me]=1; goto out         /* COMMIT */
        :: else -> skip                                                                                 /* was killed: again */
     fi
  :: else -> break
  od;
out: skip
  } unless { halt[me] }; atomic { s=0; i=0; w=0; t=0; tries=0 } }

proctype Other() { if :: sl[0]=0 :: true fi }                        /* the other key's block is freed, or not */

proctype Finder() { byte i, t; bool found;
#ifdef FIND_OLD_TOP
  t=top;
#endif
  live==1;
#ifndef FIND_OLD_TOP
  t=top;
#endif
  do :: i<END(t) -> if :: sl[i]>=10 && sl[i]!=OTHER -> found=1 :: else fi; i++ :: else -> break od;
  assert(found)
}
proctype Adv() { byte k; end_a: do :: k<HALTS -> atomic { k++; if :: halt[0]=1 :: halt[1]=1 fi } :: break od }
init { atomic { sl[0]=OTHER; run Pub(0); run Pub(1);
#if NP==3
  run Pub(2);
#endif
  run Other(); run Finder(); run Adv() };
  timeout -> atomic { assert(live<=1); assert(live==1 || !(done[0] || done[1] || done[NP-1])) } }
