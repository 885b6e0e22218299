/* One block's life: state word (state, generation, SHARED), a lease bit a party, attach, free, last detach, the reaper.
   O owns, allocates and frees it GENS times (two generations by default). A and B hold descriptors of generation 0 or 1, attach, look
   at the bytes, detach; B also frees. Any of them can vanish between two steps; the reaper (also killable) clears what they held.

   Checked: while a live party holds a validated lease the block is neither FREE nor of another generation; exactly one
   free succeeds a generation; at the end the block is FREE and no bit is set (no leak).

   Variants that must fail:
     -DFREE_DIRECT   a freer that reads "no lease" goes OWNED -> FREE although the block may be shared
     -DNO_UNDO_CHECK a failed attach clears its bit without looking for DOOMED
     -DNO_RECHECK    attach sets its bit and does not look again
     -DTWO_THREADS   A and B are two threads of one party that share a bit without a private count
   -DSHARED_FLAG (default on): free of a block that was never attached is one compare-and-swap. */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef GENS
#define GENS 2
#endif
#define FREE 0
#define OWNED 1
#define DOOMED 2
#define O 0
#define A 1
#define B 2
#ifdef TWO_THREADS
#define BIT(x) (x==B -> A : x)
#else
#define BIT(x) x
#endif
byte st=FREE, g=0; bool sh; bool lease[3];
bool dead[4], fin[3], reaped[3];
bool valid[3]; byte vgen[3];      /* ghost: a validated lease and its generation */
byte freed[3];                    /* ghost: successful frees of a generation */
byte nfree;

#define HELD(G) ((valid[A] && !dead[A] && vgen[A]==G) || (valid[B] && !dead[B] && vgen[B]==G))
#define NOLEASE (!lease[O] && !lease[A] && !lease[B])

/* the words lease[0..1] are read one after the other in the code; bits only matter one by one, so the model reads three */
inline finish(G) {                /* DOOMED(G) without leases -> FREE(G+1), exactly one wins */
  if
  :: !lease[O] -> if :: !lease[A] -> if :: !lease[B] ->
       if :: atomic { st==DOOMED && g==G -> assert(!HELD(G)); st=FREE; g++; sh=0; nfree++ } :: else fi
     :: else fi :: else fi
  :: else
  fi
}
inline freeit(G) {
  do
  :: atomic { x=st; y=sh; z=g };
     if
     :: x!=OWNED || z!=G -> break                    /* stale or double free: error */
#ifdef FREE_DIRECT
     :: x==OWNED && z==G && NOLEASE ->
        if :: atomic { st==OWNED && g==G && sh==y -> assert(!HELD(G)); freed[G]++; st=FREE; g++; sh=0; nfree++ ; x=9} :: else fi;
        if :: x==9 -> break :: else fi
#endif
     :: x==OWNED && z==G && !y ->
        if :: atomic { st==OWNED && g==G && !sh -> assert(!HELD(G)); freed[G]++; st=FREE; g++; nfree++; x=9 } :: else fi;
        if :: x==9 -> break :: else fi
     :: x==OWNED && z==G && y ->
        if :: atomic { st==OWNED && g==G && sh -> freed[G]++; st=DOOMED; x=9 } :: else fi;      /* COMMIT */
        if :: x==9 -> finish(G); break :: else fi
     fi
  od;
  atomic { x=0; y=0; z=0 }
}
inline attach(me, G) {
  ok=0;
  do
  :: atomic { x=st; y=sh; z=g };
     if
     :: x!=OWNED || z!=G -> break                    /* stale: error */
     :: x==OWNED && z==G && !y -> if :: atomic { st==OWNED && g==G && !sh -> sh=1 } :: else fi
     :: x==OWNED && z==G && y ->
        lease[BIT(me)]=1;                            /* fetch_or, seq_cst */
#ifdef NO_RECHECK
        atomic { ok=1; valid[me]=1; vgen[me]=G }; break
#else
        if :: atomic { st==OWNED && g==G -> valid[me]=1; vgen[me]=G; ok=1 } :: else -> lease[BIT(me)]=0;
#ifndef NO_UNDO_CHECK
             atomic { x=st; z=g }; if :: x==DOOMED -> finish(z) :: else fi
#endif
        fi; break
#endif
     fi
  od;
  atomic { x=0; y=0; z=0 }
}
inline detach(me) {
  atomic { valid[me]=0; lease[BIT(me)]=0 };
  atomic { x=st; z=g }; if :: x==DOOMED -> finish(z) :: else fi; atomic { x=0; z=0 }
}
#define INV(me) assert(!valid[me] || (st!=FREE && g==vgen[me]))

proctype Owner() { byte x, z, n; bool y;
  {
  do
  :: atomic { n<GENS && st==FREE && g==n -> st=OWNED }; freeit(n); n++
  :: else -> if :: n>=GENS -> break :: (n<GENS && st==FREE && g==n) || (g>n) -> if :: g>n -> n=g :: else fi fi
  od;
  fin[O]=1
  } unless { dead[O] }
}
proctype Party(byte me; bool frees) { byte x, z, n; bool y, ok;
  {
  do
  :: n<GENS ->
     attach(me, n);
     if :: ok -> INV(me); if :: frees -> freeit(n) :: skip fi; INV(me); detach(me) :: else fi;
     if :: n++ :: n==1 -> n++ fi
  :: else -> break
  od;
  fin[me]=1
  } unless { dead[me] }
}
inline clear(p) {
  if :: p==O -> 
        atomic { x=st; y=sh; z=g };
        if :: x==OWNED -> freeit(z) :: else fi
     :: else fi;
  lease[p]=0;
  atomic { x=st; z=g }; if :: x==DOOMED -> finish(z) :: else fi;
  atomic { x=0; y=0; z=0 };
  reaped[p]=1
}
proctype Reaper(bool again) { byte x, z; bool y;
  {
end_r:
  do
  :: dead[O] && !reaped[O] -> clear(O)
  :: dead[A] && !reaped[A] -> clear(A)
  :: dead[B] && !reaped[B] -> clear(B)
  od
  } unless { dead[3] && !again };
  run Reaper(1)
}
proctype Adv() { byte k;
end_a: do :: k<KILLS -> atomic { k++; if :: !fin[O] -> dead[O]=1 :: !fin[A] -> dead[A]=1
#ifndef TWO_THREADS
       :: !fin[B] -> dead[B]=1
#endif
       :: !dead[3] && (dead[O]||dead[A]||dead[B]) -> dead[3]=1 fi } :: break od }
init { atomic { run Owner(); run Party(A,0); run Party(B,1); run Reaper(0); run Adv() };
  timeout -> atomic { assert(st==FREE && NOLEASE); assert(freed[0]<=1 && freed[1]<=1 && nfree==g) } }
