/* A budget (pool/budget.c): a count that is never less than what is KEPT, a limit that is exact, and who finds out by how much the count
   is too high. L units, blocks of one unit each, records K[]. A seat's word grows: even idle, odd busy.
     alloc    seat; count += 1 unless that is beyond L; a record KEPT (COMMIT); seat
     free     seat; a record KEPT -> FREE (COMMIT); count -= 1; seat         (or without the budget: KEPT -> FREE alone)
     settle   look: the seats, and which of them are of the dead; count; each record; the count again, the seats again
              drift = count - records - busy seats of the living; CAS count -> count - drift, if nobody has settled since the look

   Two who work and can be killed, two who settle.
   Checked: never more KEPT than L; the count is never less than what is KEPT; when all is quiet a settlement makes them equal.
   Variants that must fail:
     -DRAISE_LATE   the count is raised after the record is KEPT
     -DLOWER_FIRST  the count is lowered before the record is freed
     -DEARLY_UP     the seat is given back before the record is KEPT
     -DNO_SEATS     the look does not ask who is at work
     -DONE_LOOK     the seats are not looked at again
     -DNO_NUMBER    who settles does not ask whether somebody has settled since his look
     -DLATE_DEATH   whose seat is a dead one's is asked after the records: it may have made one KEPT after the look at that
     -DDEAD_COUNT   the seats of the dead count as the living's */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef OPS
#define OPS 1
#endif
#ifndef SETTLERS
#define SETTLERS 1
#endif
#define L 1
#define M 2
byte count, number, seat[2];
bool kept[M], dead[2], bare;
#define TRUTH (kept[0]+kept[1])

inline raise() { if :: atomic { count<L -> count++; got=1 } :: atomic { count>=L -> got=0 } fi }
inline keep() { atomic { if :: !kept[0] -> kept[0]=1 :: kept[0] && !kept[1] -> kept[1]=1 :: else -> assert(0) fi;
                         assert(TRUTH<=L && count>=TRUTH) } }
inline drop() { atomic { if :: kept[0] -> kept[0]=0; got=1 :: kept[1] -> kept[1]=0; got=1 :: !kept[0] && !kept[1] -> got=0 fi } }
inline lower() { atomic { if :: count>0 -> count-- :: else fi; assert(count>=TRUTH) } }

proctype Worker(byte p) { byte n; bool got;
  { do
    :: n<OPS -> n++;
       if
       :: seat[p]=seat[p]+1;                                                 /* alloc */
#ifdef RAISE_LATE
          if :: count<L -> keep(); raise() :: else fi;
#else
          raise();
          if :: got ->
#ifdef EARLY_UP
                seat[p]=seat[p]+1; keep(); seat[p]=seat[p]+1
#else
                keep()
#endif
             :: else fi;
#endif
          seat[p]=seat[p]+1
       :: seat[p]=seat[p]+1;                                                 /* free */
#ifdef LOWER_FIRST
          if :: TRUTH>0 -> lower(); drop() :: else fi;
#else
          drop(); if :: got -> lower() :: else fi;
#endif
          seat[p]=seat[p]+1
       :: !bare -> atomic { bare=1; drop() }                                 /* cue_block_free alone, once */
       fi
    :: else -> break
    od } unless { dead[p] } }

#ifdef DEAD_COUNT
#define BUSY(p, s) (s%2)
#else
#define BUSY(p, s) (s%2==1 && !dead[p])
#endif
inline look() {
  s0=seat[0]; d0=BUSY(0, s0);
  s1=seat[1]; d1=BUSY(1, s1);
  atomic { c=count; m=number };
  sum=kept[0]; sum=sum+kept[1];
  good=(count==c && number==m);
#ifdef LATE_DEATH
  d0=BUSY(0, s0); d1=BUSY(1, s1);
#endif
#ifndef NO_SEATS
#ifndef ONE_LOOK
  good=(good && seat[0]==s0);
  good=(good && seat[1]==s1);
#endif
  sum=sum+d0+d1;
#endif
  atomic { s0=0; s1=0; d0=0; d1=0 } }
inline settle() {
  atomic { if
#ifdef NO_NUMBER
           :: c>sum && count>=c-sum ->
#else
           :: number==m && c>sum && count>=c-sum ->
#endif
              count=count-(c-sum); number=(number+1)%4; assert(count>=TRUTH) :: else fi } }
proctype Settler() { byte s0, s1, c, m, sum; bool d0, d1, good;
  look(); if :: good -> settle() :: else fi }
proctype Adv() { byte k;
end_a: do :: k<KILLS -> atomic { k++; if :: dead[0]=1 :: dead[1]=1 fi } :: break od }
init { byte s0, s1, c, m, sum; bool d0, d1, good;
  atomic { run Worker(0); run Worker(1); run Settler(); if :: SETTLERS>1 -> run Settler() :: else fi; run Adv() };
  timeout -> atomic { look(); settle(); assert(good && count==TRUTH) } }
