/* Waiting for room, first come, first served. Three parties come, each for some units; a holder frees units one by one. Who comes
   looks at `line`: bit 0 not set, or set and no ticket shows: it takes what is there, else it takes a ticket, shows it, then sets the bit
   and counts `line` up in one step. In the line: set the bit of `room`, look for an older ticket, try, sleep on the word that was seen.
   Who frees, or leaves the line, and finds the bit, clears it and counts the word up in one step, then wakes all. Who is killed gives back what it
   has (the reaper) and wakes nobody; the sleepers' naps end (a watch period).

   -DANY: one of them tries also out of its turn, as a sender of a small message does; it keeps its place in the line.
   START units are there from the beginning, the rest come free one by one: what comes free before anybody comes wakes nobody, so this is
   every order in which nobody comes before that many are free. Three parties are searched exhaustively from START=1 on, with a kill from
   2 on; with less there at the beginning they sleep and are woken more often, which two parties do from START=0 on. Three from START=0 on
   are too many: `room` counts each wake and each sleeper remembers what it saw, so every order of four wakes and three sleepers is a state
   of its own. That search was left after 4.6e7 states and 1.1e8 steps, none deeper than 295, without an error (-DKILLS=0, ten minutes,
   2.5 GB). What it leaves open: three who come before the first unit is there.

   Checked: nobody who comes takes units past a living one that was in the line before it looked; in the line nobody is served past
   an older one; at the end all the living are served.
   Variants that must fail:
     -DLINE_FIRST  the bit of `line` is set before the ticket shows
     -DBIT         newcomers go by the bit of `room`, which is off between a wake and the next look
     -DSET_LATE    the bit of `room` is set after the try
     -DTWO_STEPS   who wakes counts up first and clears the bit then: a third one that sets it again makes the word what it was
     -DNO_PASS     who leaves the line wakes nobody */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef NP
#define NP 3
#endif
#define N 3
#define UNITS (NP+1)
#ifndef START
#define START 0
#endif
byte units=START, room, line, tickets, waiting[N];
bool dead[N], done[N], asleep[N], in_line[N]; byte got[N];
#define NEED(p) (p==0 -> 2 : 1)
#ifdef ANY
#define ANYHOW(p) (p==1)
#else
#define ANYHOW(p) 0
#endif
#define WAITS(p) (in_line[p] && !dead[p])

inline wake() {
#ifdef TWO_STEPS
  if :: (room & 1) -> room=room+2; atomic { room=room & 254; asleep[0]=0; asleep[1]=0; asleep[2]=0 } :: else fi }
#else
  if :: atomic { (room & 1) -> room=room+1 }; atomic { asleep[0]=0; asleep[1]=0; asleep[2]=0 } :: else fi }
#endif

inline take(failed) {
  if :: atomic { units>=NEED(me) -> units=units-NEED(me); got[me]=NEED(me) } :: else -> goto failed fi }

proctype Party(byte me) { byte seen, q, ticket; bool any, before[N];
  {
  atomic { seen=line; before[0]=WAITS(0); before[1]=WAITS(1); before[2]=WAITS(2) };
#ifdef BIT
  if :: (room & 1) -> goto enter :: else -> goto straight fi;
#endif
  if :: (seen & 1)==0 -> goto straight :: else fi;
  do :: q<N -> if :: waiting[q]!=0 && !dead[q] -> goto enter :: else fi; q++ :: else -> break od;
  if :: atomic { line==seen -> line=line & 254 } :: else fi;
straight:
  atomic { assert(!(before[0] && WAITS(0)) && !(before[1] && WAITS(1)) && !(before[2] && WAITS(2)));
           before[0]=0; before[1]=0; before[2]=0; seen=0; q=0 };
  take(enter);
  goto served;
enter:
  atomic { tickets++; ticket=tickets; before[0]=0; before[1]=0; before[2]=0; seen=0; q=0 };
#ifdef LINE_FIRST
  atomic { line=(line+2)|1; in_line[me]=1 };
  waiting[me]=ticket;
#else
  waiting[me]=ticket;
  atomic { line=(line+2)|1; in_line[me]=1 };
#endif
look:
#ifdef SET_LATE
  atomic { seen=room; q=0 };
#else
  atomic { room=room|1; seen=room; q=0 };
#endif
  atomic { before[0]=WAITS(0) && waiting[0]<ticket; before[1]=WAITS(1) && waiting[1]<ticket; before[2]=WAITS(2) && waiting[2]<ticket };
#ifdef ANY
  if :: me==1 -> goto try :: else fi;
#endif
  do :: q<N -> if :: waiting[q]!=0 && waiting[q]<ticket && !dead[q] -> goto nap :: else fi; q++ :: else -> break od;
try:
  take(nap);
  assert(ANYHOW(me) || (!(before[0] && WAITS(0)) && !(before[1] && WAITS(1)) && !(before[2] && WAITS(2))));
  goto leave;
nap:
  atomic { before[0]=0; before[1]=0; before[2]=0; q=0 };
#ifdef SET_LATE
  atomic { room=room|1; seen=room };
#endif
  if :: atomic { room==seen -> asleep[me]=1 }; atomic { asleep[me]==0 -> seen=0 } :: else fi;
  goto look;
leave:
  atomic { waiting[me]=0; in_line[me]=0; before[0]=0; before[1]=0; before[2]=0; q=0; seen=0 };
#ifndef NO_PASS
  wake();
#endif
served:
  done[me]=1
  } unless { dead[me] }; atomic { seen=0; q=0; ticket=0; before[0]=0; before[1]=0; before[2]=0 } }

proctype Holder() { byte n;
  do :: n<UNITS-START -> units++; wake(); n++ :: else -> break od }

proctype Killer() { byte k, p;
  do
  :: k<KILLS -> k++;
     if :: p=0 :: p=1 :: NP==3 -> p=2 fi;
     atomic { dead[p]=1; in_line[p]=0; units=units+got[p]; got[p]=0; asleep[0]=0; asleep[1]=0; asleep[2]=0 };  /* p's lock goes; naps end */
     wake(); waiting[p]=0                                                                           /* the reaper, the next joiner */
  :: break
  od }

init { atomic { run Party(0); run Party(1);
#if NP==3
  run Party(2);
#else
  done[2]=1;
#endif
  run Holder(); run Killer() };
  timeout -> assert((dead[0] || done[0]) && (dead[1] || done[1]) && (dead[2] || done[2])) }
