/* Mailbox: a LIFO chain that is never cut. The head word (index | seq, SLEEP) only ever moves by compare-and-swap; the
   receiver does not take the chain away, it walks it down to the last position it has consumed.
   Two senders, a receiver that can die and be replaced, a reaper that can die and be replaced; a process can vanish
   (dead[]) or stop for ever (stopped[]) between any two steps. An atomic block is one access to shared memory plus
   private work. `gen` is left out of the state where a recycled record differs anyway by its sequence.

   Checked: messages come in push order, each at most once, none is lost unless its receiver died holding it; at the end
   no record is left with the dead; nobody sleeps while a message of a sender that is not stopped is there.

   Variants that must fail, to show what each rule is for:
     -DWAIT_ON_INDEX   the futex compares the index half of the head (a recycled record on top looks like no push)
     -DSENDER_CLEARS   the sender's push clears SLEEP (with -DSTOPS=1: the others no longer wake)
     -DSENT_FIRST      state SENT is written before next and seq (a recycled record looks like its former self)
     -DNO_REAPER_WAKE  the reaper of a sender wakes nobody
     -DATTACH -DWHOLE_WORD   an attach sets the SHARED flag of a record meanwhile, and the orphan rule compares whole state words */
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
#define M2 1
#endif
#ifndef NREC
#define NREC 2
#endif
#define FREE 0
#define OWNED 1
#define SENT 2
#define S1 0
#define S2 1
#define RA 2
#define RB 3
#define PA 4
#define PB 5

bool dead[6], stopped[2], fin[2];
byte st[NREC+1], own[NREC+1], gen[NREC+1], next[NREC+1], seq[NREC+1], val[NREC+1];
byte hi, hs; bool hsl;           /* the head word */
byte cons;                       /* consumed position */
bool sh[NREC+1];                 /* SHARED: set by an attach at any time, gone with the record's life */
bool asleep;                     /* a waiter is in the futex queue */
byte log_[4], nlog, ndel;        /* ghost: pushes in order, number handed over */

proctype Sender(byte me; byte n) {
  byte r, li, ls, k; bool lsl, sent;
  {
  do
  :: atomic { k < n ->                                          /* alloc: its own protocol, one commit */
       if :: st[1]==FREE -> r=1 :: st[2]==FREE -> r=2
#if NREC==3
          :: st[3]==FREE -> r=3
#endif
       fi;
       st[r]=OWNED; own[r]=me; sh[r]=0; val[r]=me*4+k+1; k++ };
     sent = 0;
#ifdef SENT_FIRST
     atomic { st[r]=SENT; sent=1 };
#endif
     do
     :: atomic { li=hi; ls=hs; lsl=hsl };                       /* load head */
        atomic { next[r]=li; seq[r]=ls+1 };
        if :: !sent -> atomic { st[r]=SENT; sent=1 } :: else fi;  /* CAS OWNED->SENT */
        atomic {
          if :: hi==li && hs==ls && hsl==lsl -> hi=r; hs=ls+1;  /* CAS head: COMMIT */
#ifdef SENDER_CLEARS
                hsl=0;
#endif
                log_[nlog]=val[r]; nlog++; break
             :: else fi }
     od;
     if :: atomic { lsl -> asleep=0 } :: else fi;               /* FUTEX_WAKE */
     atomic { r=0; li=0; ls=0; lsl=0 }
  :: else -> break
  od;
  fin[me]=1
  } unless { dead[me] || stopped[me] }
}

proctype Receiver(byte me) {
  byte li, ls, p, i, cur, c; byte fwd[NREC+1]; bool lsl;
  {
end_loop:
  do
  :: atomic { li=hi; ls=hs; lsl=hsl; c=cons };                  /* cons is the receiver's own word */
     if
     :: ls==c ->
        if
        :: atomic { hi==li && hs==ls && hsl==lsl -> hsl=1 } ->  /* CAS head */
           if                                                   /* FUTEX_WAIT compares 32 bits */
#ifdef WAIT_ON_INDEX
           :: atomic { (hi==li && hsl) -> asleep=1 } ->
#else
           :: atomic { (hs==ls && hsl) -> asleep=1 } ->
#endif
end_sleep:    !asleep
           :: else
           fi;
           hsl=0                                                /* fetch_and: only the receiver clears */
        :: else
        fi
     :: else ->
        atomic { i=li; p=ls; cur=0 };
        do
        :: p>c ->
           if :: atomic { st[i]==SENT && seq[i]==p -> fwd[i]=cur; cur=i; p--; i=next[i] } :: else -> break fi
        :: else -> break
        od;
        if :: p>c -> cons=p :: else fi;      /* a former receiver died between its two steps; without this: never empty, never asleep */
        do
        :: cur ->
           atomic { assert(st[cur]==SENT); st[cur]=OWNED; own[cur]=me;       /* CAS state: COMMIT */
                    assert(log_[ndel]==val[cur]); ndel++ };
           cons++;                                                           /* fetch_add */
           atomic { st[cur]=FREE; gen[cur]=1-gen[cur]; val[cur]=0; own[cur]=0; c=fwd[cur]; fwd[cur]=0; cur=c }
        :: else -> break
        od
     fi;
     atomic { li=0; ls=0; lsl=0; p=0; i=0; c=0 }
  od
  } unless { dead[me] }
}

inline reap(s) {                             /* idempotent; the whole pass again after a reaper's death */
  r=1;
  do
  :: r<=NREC ->
     if
     :: atomic { st[r]==OWNED && own[r]==s -> st[r]=FREE; gen[r]=1-gen[r]; val[r]=0; own[r]=0 }
     :: atomic { st[r]==SENT && own[r]==s -> q=seq[r]; c=cons };   /* consumed is read before the state is judged */
        atomic { li=hi; ls=hs; linked=0 };
        if
        :: q>c && q<=ls ->
           atomic { i=li; p=ls };
           do
           :: p>q ->
              if :: atomic { st[i]==SENT && seq[i]==p -> g=gen[i]; s0=sh[i] } :: else -> break fi;
              t=next[i];
#ifdef WHOLE_WORD
              if :: atomic { st[i]==SENT && gen[i]==g && sh[i]==s0 -> i=t; p-- } :: else -> break fi
#else
              if :: atomic { st[i]==SENT && gen[i]==g -> i=t; p-- } :: else -> break fi
#endif
           :: else -> linked=(i==r); break
           od
        :: else
        fi;
        if :: atomic { !linked && st[r]==SENT && own[r]==s -> st[r]=FREE; gen[r]=1-gen[r]; val[r]=0; own[r]=0 }   /* CAS */
           :: else
        fi;
        atomic { q=0; c=0; li=0; ls=0; i=0; p=0; g=0; t=0; s0=0; linked=0 }
     :: else
     fi;
     r++
  :: else -> break
  od
}

proctype Reaper(byte me; bool d3) {
  byte r, q, c, li, ls, i, p, t; bool g, s0, linked, d1, d2;
  {
end_w:
  do
  :: dead[S1] && !d1 -> reap(S1);
#ifndef NO_REAPER_WAKE
     if :: atomic { hsl && hs!=cons -> asleep=0 } :: else fi;
#endif
     atomic { d1=1; r=0 }
  :: dead[S2] && !d2 -> reap(S2);
#ifndef NO_REAPER_WAKE
     if :: atomic { hsl && hs!=cons -> asleep=0 } :: else fi;
#endif
     atomic { d2=1; r=0 }
  :: dead[RA] && !d3 -> reap(RA); atomic { d3=1; r=0; run Receiver(RB) }   /* somebody opens the lane again */
  od
  } unless { dead[me] };
  atomic { r=0; q=0; c=0; li=0; ls=0; i=0; p=0; t=0; s0=0; run Reaper(PB, d3) }
}

proctype Adversary() {
  byte k=0, z=0;
end_a:
  do
  :: k<KILLS -> atomic { k++;
     if :: !fin[S1] && !stopped[S1] && !dead[S1] -> dead[S1]=1
        :: !fin[S2] && !stopped[S2] && !dead[S2] -> dead[S2]=1
        :: !dead[RA] -> dead[RA]=1; asleep=0
        :: !dead[PA] && (dead[S1] || dead[S2] || dead[RA]) -> dead[PA]=1 fi }
  :: z<STOPS -> atomic { z++; if :: !fin[S1] && !dead[S1] -> stopped[S1]=1 :: !fin[S2] && !dead[S2] -> stopped[S2]=1 fi }
  :: break
  od
}

#ifdef ATTACH
proctype Attacher() {
end_t:
  if
  :: atomic { st[1]==SENT -> sh[1]=1 }
  :: atomic { st[2]==SENT -> sh[2]=1 }
  fi
}
#endif

byte gi;
init {
#ifdef ATTACH
  run Attacher();
#endif
  atomic { run Sender(S1,M1); run Sender(S2,M2); run Receiver(RA); run Reaper(PA,0); run Adversary() };
  timeout ->
  d_step {
    gi=ndel;                     /* a message that nobody was told of may only be one of a stopped sender */
    do :: gi<nlog -> assert(stopped[S1] && (log_[gi]-1)/4==S1 || stopped[S2] && (log_[gi]-1)/4==S2); gi++ :: else -> break od;
    gi=1;
    do :: gi<=NREC ->
          if :: st[gi]==FREE || stopped[S1] || stopped[S2] :: else -> assert(0) fi; gi++
       :: else -> break od
  }
}
