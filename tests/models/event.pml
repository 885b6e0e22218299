/* An event that any number of processes wait for: a futex word with a number and a bit "somebody waits" (channels/event.h). What is waited
   for is a counter here (queue.pml has the ring).
     wait   v = number + 1; word := (v, 1), one CAS; look again; FUTEX_WAIT(word, (v, 1))
     call   make it so; the bit is set? number += 1, v; FUTEX_WAKE one; nobody slept: CAS (v, 1) -> (v, 0). With -DALL it wakes all, and
            always does the last step
   After a take: if more is there and the bit is set, call for the next one (the baton). Whoever calls may be killed or stopped between two steps, a
   woken receiver may be killed before it takes; the reaper calls all.
   Checked: at the end no receiver sleeps while a message is there, unless the only ones left are a stopped sender's.
   Variants that must fail:
     -DSAME_WORD      a waiter that finds the bit set does not change the number: a caller that found nobody asleep clears its bit
     -DCLEAR_FIRST    the caller clears the bit before it wakes, and may be stopped in between
     -DNO_LOOK        no second look after the bit
     -DNO_WAKEALL     the reaper calls nobody */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef M1
#define M1 2
#endif
#ifndef M2
#define M2 0
#endif
#ifndef MOST
#define MOST 8                    /* two waiters that always change the number under each other would never end: such runs are not looked at */
#endif
byte avail, num; bool bit_, inq[2], dead[4], stop[2], fin[2];

inline wake_one() { if :: inq[0] -> inq[0]=0; woke=1 :: inq[1] -> inq[1]=0; woke=1 :: else -> woke=0 fi }
inline call() {
  if
  :: bit_ ->
#ifdef CLEAR_FIRST
     atomic { num=num+1; v=num; bit_=0 };
     atomic { wake_one() }
#else
     atomic { num=num+1; v=num };
#ifdef ALL
     atomic { inq[0]=0; inq[1]=0; woke=0 };
#else
     atomic { wake_one() };
#endif
     if :: !woke -> if :: atomic { num==v && bit_ -> bit_=0 } :: else fi :: else fi
#endif
  :: else
  fi; atomic { v=0; woke=0 } }
proctype Put(byte me; byte n) { byte k, v; bool woke;
  { do :: k<n -> atomic { avail++; k++ };                                     /* COMMIT, seq_cst */
       call()
       :: else -> break od; fin[me]=1
  } unless { dead[me] || stop[me] }; atomic { k=0; v=0; woke=0 } }
proctype Get(byte me) { byte b, v; bool got, woke;
  {
end_g: do
  :: if :: atomic { avail>0 -> avail--; got=1 } :: else -> got=0 fi;
     if
     :: got -> if :: avail>0 -> call() :: else fi
     :: else ->
#ifdef SAME_WORD
        atomic { num<MOST; if :: bit_ -> skip :: else -> num=num+1 fi; b=num; bit_=1 };
#else
        atomic { num<MOST -> num=num+1; b=num; bit_=1 };
#endif
#ifndef NO_LOOK
        if :: avail>0 -> skip :: else ->
#else
        if :: true ->
#endif
           if :: atomic { num==b && bit_ -> inq[me]=1 } -> end_s: !inq[me] :: else fi
        fi; b=0
     fi
  od } unless { dead[2+me] }; atomic { b=0; v=0; got=0; woke=0 } }
inline call_all() { atomic { num=num+1; inq[0]=0; inq[1]=0 } }
proctype Reaper() { bool d[4];
end_r: do
  :: dead[0] && !d[0] -> call_all(); d[0]=1
  :: dead[1] && !d[1] -> call_all(); d[1]=1
  :: dead[2] && !d[2] ->
#ifndef NO_WAKEALL
     call_all();
#endif
     d[2]=1 od }
proctype Adv() { byte k, z; end_a: do
  :: k<KILLS -> atomic { k++; if :: !fin[0] && !stop[0] -> dead[0]=1 :: dead[2]=1; inq[0]=0 fi }
  :: z<STOPS -> atomic { z++; if :: !fin[0] && !dead[0] -> stop[0]=1 fi } :: break od }
init { atomic { run Put(0,M1); if :: M2>0 -> run Put(1,M2) :: else fi; run Get(0); run Get(1); run Reaper(); run Adv() };
  timeout -> assert(num>=MOST || !(inq[1] && avail>(stop[0] -> 1 : 0)) && !(inq[0] && !dead[2] && avail>(stop[0] -> 1 : 0))) }
