/* A block X that goes along with an envelope E (message.c, lane_recovery.c). Sending: X is SENT for E (E's index and generation
   noted in it), then E is SENT, then E is linked (commit); giving up goes back in the reverse order. Receiving: E is taken (SENT -> OWNED),
   then X, then E is freed. Recovery decides about X by the state of E:
     X's sender dead: E of another generation: X was handed over (the CAS fails) or withdrawn: freed if it still is SENT by the dead.
                      E OWNED: by another party: a receiver, which takes X next: stays. By the sender itself: never sent: freed.
                      E SENT: linked: stays; not linked: freed.
     E's receiver dead: E OWNED by it and X still SENT for it: X is freed first, whoever sent it; then E.

   A sender that gives up or goes through, a receiver that can die and its successor, a reaper that can die and the next one. Records
   are used again after they were freed (by the sender's second message).
   Checked: whoever takes an envelope alive gets its block; no block is freed under a living owner; at the end nothing is left.
   Variants that must fail:
     -DENVELOPE_FIRST  the reaper frees the dead receiver's envelope before its block
     -DX_LATE          the sender links the envelope before the block is SENT
     -DNO_PARTY        X stays whenever its envelope is OWNED by anybody */
#ifndef KILLS
#define KILLS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define FREE 0
#define OWNED 1
#define SENT 2
#define S 0
#define A 1
#define B 2
#define R1 3
byte es, eo, eg;                  /* E: state, owner, generation */
byte bs, bo, bg, bl;              /* X, and the generation of E that it was sent for */
bool linked;                      /* E hangs on the chain */
bool dead[4], fin, gone;          /* gone: R1 is dead and its successor is at it */
bool holds[4];                    /* ghost: this process owns X */

inline free_x(who) { atomic { bs=FREE; bo=0; bg=(bg+1)%4; bl=0; holds[who]=0 } }
inline free_e() { atomic { es=FREE; eo=0; eg=(eg+1)%4 } }

proctype Sender() { byte n;
  { do
    :: n<ROUNDS ->
       atomic { es==FREE && bs==FREE -> es=OWNED; eo=S; bs=OWNED; bo=S; holds[S]=1; n++ };     /* alloc: two commits of their own */
#ifndef X_LATE
       bl=eg; atomic { bs=SENT; holds[S]=0 };
#endif
       es=SENT;
       if :: linked=1;                                                                         /* CAS head: COMMIT */
#ifdef X_LATE
             bl=eg; atomic { if :: bs==OWNED && bo==S -> bs=SENT; holds[S]=0 :: else fi };
#endif
             (es!=SENT || eo!=S)                                                               /* the next message comes later */
          :: es=OWNED;                                                                         /* the lane is full: give up */
             atomic { bs=OWNED; holds[S]=1 };
             free_e(); free_x(S)
       fi
    :: else -> break
    od; fin=1
  } unless { dead[S] } }

inline receive(me) {
  atomic { linked && es==SENT -> es=OWNED; eo=me; linked=0; g=eg };                            /* !! COMMIT */
  atomic { assert(bs==SENT && bl==g); bs=OWNED; bo=me; holds[me]=1 };                          /* !! it is there, always */
  free_e();
  free_x(me)
}
proctype Receiver(byte me) { byte g;
  { me==A || dead[A];
end_r: do :: receive(me) od } unless { dead[me] }; g=0 }

/* One sweep over the dead party p: both records, in the order of the code. */
inline drop_x() { atomic { if :: bs==SENT && bo==o && bg==h -> assert(!(holds[S] && !dead[S]) && !(holds[A] && !dead[A]) && !holds[B]);
                                  bs=FREE; bo=0; bg=(bg+1)%4; bl=0 :: else fi } }
inline settle(p) {                                                                             /* the envelope's receiver is dead */
  atomic { k=(bs==SENT); o=bo; l=bl; h=bg };
  if :: k && o!=p -> atomic { k=(es==OWNED && eo==p && eg==l) }; if :: k -> drop_x() :: else fi
     :: else fi }
inline sweep_e(p) {
  if :: atomic { es==OWNED && eo==p -> es=FREE; eo=0; eg=(eg+1)%4 }
     :: atomic { es==SENT && eo==p && !linked -> es=FREE; eo=0; eg=(eg+1)%4 }                  /* the orphan rule: mailbox.pml */
     :: else fi }
inline sweep_x(p) {
  atomic { k=(bs==SENT && bo==p); o=bo; l=bl; h=bg };
  if
  :: k -> atomic { st=es; q=eo; g=eg };
     if :: g!=l || st==FREE -> drop_x()
        :: g==l && st==OWNED ->
#ifdef NO_PARTY
           skip
#else
           if :: q==p -> drop_x() :: else fi
#endif
        :: g==l && st==SENT -> if :: linked -> skip
                                  :: else -> atomic { k=(es==SENT && eo==q && eg==g) }; if :: k -> drop_x() :: else -> goto again fi fi
     fi
  :: else ->
     if :: atomic { bs==OWNED && bo==p -> bs=FREE; bo=0; bg=(bg+1)%4; bl=0; holds[p]=0 } :: else fi
  fi }
proctype Reaper(bool next) { byte o, l, h, st, q, g, p; bool k, done[2];
  { next==0 || dead[R1];
end_w:
    do
    :: dead[S] && !done[0] -> p=S; goto again;
    :: dead[A] && !done[1] -> p=A;
again:
#ifndef ENVELOPE_FIRST
       settle(p);
       if :: sweep_e(p); sweep_x(p) :: sweep_x(p); sweep_e(p) fi;
#else
       sweep_e(p); settle(p); sweep_x(p);
#endif
       atomic { done[p]=1; o=0; l=0; h=0; st=0; q=0; g=0; k=0; p=0 }
    od
  } unless { dead[R1] && !next } }
proctype Adv() { byte k;
end_a: do :: k<KILLS -> atomic { k++; if :: !fin -> dead[S]=1 :: dead[A]=1 :: dead[S] || dead[A] -> dead[R1]=1 fi } :: break od }
init { atomic { run Sender(); run Receiver(A); run Receiver(B); run Reaper(0); run Reaper(1); run Adv() };
  timeout -> assert(es==FREE && bs==FREE && !linked) }
