/* What an extent says of the room in it when it is given up. One holds the extent, in which nothing is free; it looks at what came back, says
   how much is free (`largest`), looks again, and lets go. Others free a run each: the record's state, then `largest` becomes unknown if it
   is not. Slabs do the same with `returned`, the owner word and the extent's bit: -DSLAB.

   KILLS: any of them may be killed; recovery then makes all of it unknown. Checked: at the end nothing is free that nobody would look for.
   Variants that must fail:
     -DLOOK_FIRST  who gives up does not look again
     -DASK_OWNER   who frees makes it unknown only if nobody owns the extent, as it looked before the free */
#ifndef KILLS
#define KILLS 1
#endif
#define UNKNOWN 255
byte owner=1, largest=UNKNOWN, known, ended, kills; bool is_free[2], hint, victim[3];

inline look() { known=0; if :: is_free[0] -> known++ :: else fi; if :: is_free[1] -> known++ :: else fi }

active proctype Giver() { byte before;
  {
#ifdef SLAB
  look();
  if :: known>0 -> goto out :: else fi;
  owner=0;
#ifndef LOOK_FIRST
  look();
  if :: known>0 -> hint=1 :: else fi;
#endif
#else
  look();
again:
  largest=known; before=known;
#ifndef LOOK_FIRST
  look();
  if :: known>before -> goto again :: else fi;
#endif
  owner=0;
#endif
out: skip
  } unless { victim[2] }; ended++ }

proctype Freer(byte me) { byte saw;
  {
#ifdef ASK_OWNER
  saw=owner;
#endif
  is_free[me]=1;
#ifdef SLAB
#ifndef ASK_OWNER
  saw=owner;
#endif
  if :: saw==0 -> hint=1 :: else fi;
#elif defined(ASK_OWNER)
  if :: saw==0 -> largest=UNKNOWN :: else fi;
#else
  if :: largest!=UNKNOWN -> largest=UNKNOWN :: else fi;
#endif
  } unless { victim[me] }; ended++ }

proctype Killer() { byte p;
  do
  :: kills<KILLS -> kills++;
     if :: p=0 :: p=1 :: p=2 fi;
     victim[p]=1;
  :: break
  od }

init { atomic { run Freer(0); run Freer(1); run Killer() };
  (ended==3);
  atomic {
    if :: victim[0] || victim[1] || victim[2] -> largest=UNKNOWN; hint=1; if :: victim[2] -> owner=0 :: else fi :: else fi;  /* the reaper */
    look();
#ifdef SLAB
    assert(owner!=0 || known==0 || hint)
#else
    assert(owner!=0 || largest==UNKNOWN || largest>=known)
#endif
  } }
