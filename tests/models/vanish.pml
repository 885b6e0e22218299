/* A pool's name: made, opened, left, vanished, destroyed. The object is linked to its name when it is complete; a joiner writes
   LIVE into its slot and then reads `life`; the last one out takes the lock INIT of the object, sets life to DYING, looks at the
   parties and at the blocks, and unlinks the name if it is still this object's. Whoever finds DYING or GONE takes INIT and
   finishes it or takes it back. destroy sets GONE. Any process may be killed between two steps: its lock and its life go with it.

   Each process opens, perhaps publishes a block that is kept, or destroys, and closes; ROUNDS times.
   Checked: an unlink never takes another object's name; a pool that is not destroyed loses its name only when no living
   party uses it and nothing is kept in it; GONE is for good; at the end a name belongs to a pool that can be opened.
   Variants that must fail:
     -DNO_RECHECK       the joiner does not read `life` again after LIVE
     -DNO_SAME          who unlinks does not compare the name with the object
     -DFINISH_BLIND     who finds a pool dying does not look under INIT at what it is by now
     -DSTORE_RUNNING    DYING is taken back by a store instead of a compare-and-swap
     -DDESTROY_UNLOCKED destroy unlinks without INIT */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef NP
#define NP 3
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef DESTROYS
#define DESTROYS 0
#endif
#define NO (NP*ROUNDS+1)          /* objects that can ever be made, from 1 on */
#define RUNNING 0
#define DYING 1
#define GONE 2
byte name;                        /* the object that the name leads to, 0: none */
byte nobj;
byte life[NO+1]; bool kept[NO+1]; byte init_[NO+1];       /* init_: 1 + who holds the lock */
bool in_[(NO+1)*NP];              /* slots: LIVE */
byte user[NP];                    /* ghost: the pool that this process has open */
bool dead[NP];
#if NP==2
#define LIVES(o) ((in_[(o)*NP] && !dead[0]) || (in_[(o)*NP+1] && !dead[1]))
#define USED(o) ((user[0]==(o) && !dead[0]) || (user[1]==(o) && !dead[1]))
#else
#define LIVES(o) ((in_[(o)*NP] && !dead[0]) || (in_[(o)*NP+1] && !dead[1]) || (in_[(o)*NP+2] && !dead[2]))
#define USED(o) ((user[0]==(o) && !dead[0]) || (user[1]==(o) && !dead[1]) || (user[2]==(o) && !dead[2]))
#endif
#define CAN_HOLD(o) (init_[o]==0 || dead[init_[o]-1])

inline unlink_own() {                             /* compares, then unlinks: two steps */
#ifdef NO_SAME
  if :: true ->
#else
  if :: name==o ->
#endif
        atomic { if :: name -> assert(name==o);                                                  /* never a successor's */
                               assert(life[o]==GONE || (!USED(o) && !kept[o])); name=0 :: else fi }
     :: else fi }

inline take_back() {
#ifdef STORE_RUNNING
  atomic { assert(life[o]!=GONE); life[o]=RUNNING }
#else
  atomic { if :: life[o]==DYING -> life[o]=RUNNING :: else fi }                                  /* CAS */
#endif
}
inline finish_dying() {
  if :: atomic { CAN_HOLD(o) -> init_[o]=me+1 } ->
#ifdef FINISH_BLIND
        if :: life[o]==GONE -> unlink_own() :: else ->
              if :: LIVES(o) -> take_back() :: else -> unlink_own() fi fi;
#else
        if :: life[o]==GONE -> unlink_own()
           :: life[o]==DYING -> if :: LIVES(o) -> take_back()
                                   :: else -> if :: kept[o] -> take_back() :: else -> unlink_own() fi fi
           :: life[o]==RUNNING
        fi;
#endif
        init_[o]=0
     :: else fi }
inline vanish() {
  if :: LIVES(o) -> skip
     :: else ->
        if :: atomic { CAN_HOLD(o) -> init_[o]=me+1 } ->
              if :: !kept[o] ->
                    atomic { was=life[o]; if :: was==RUNNING -> life[o]=DYING :: else fi };      /* CAS */
                    if :: was==GONE -> unlink_own()
                       :: else -> if :: LIVES(o) -> take_back()
                                     :: else -> if :: kept[o] -> take_back() :: else -> unlink_own() fi fi
                    fi
                 :: else fi;
              init_[o]=0
           :: else fi
  fi }
proctype Proc(byte me) { byte o, n, was; bool d;
  {
  do
  :: n<ROUNDS -> n++;
     do                                                                                          /* open */
     :: o=name;
        if
        :: o==0 ->                                                                               /* built unnamed, its maker in it */
           if :: atomic { name==0 -> nobj++; o=nobj; in_[o*NP+me]=1; name=o; user[me]=o } -> break /* link: COMMIT */
              :: else -> skip                                                                    /* EEXIST: again */
           fi
        :: o && life[o]!=RUNNING -> finish_dying()
        :: else ->
           in_[o*NP+me]=1;                                                                       /* word := LIVE, seq_cst */
#ifdef NO_RECHECK
           atomic { user[me]=o }; break
#else
           if :: atomic { life[o]==RUNNING -> user[me]=o } -> break
              :: else -> in_[o*NP+me]=0; finish_dying()
           fi
#endif
        fi
     od;
     if :: kept[o]=1 :: kept[o]=0                                                                /* publishes, frees, nothing */
        :: DESTROYS && me==0 ->
           atomic { life[o]=GONE; user[me]=0 };
#ifdef DESTROY_UNLOCKED
           unlink_own()
#else
           if :: atomic { CAN_HOLD(o) -> init_[o]=me+1 } -> unlink_own(); init_[o]=0 :: else fi  /* else: left to its holder or the next */
#endif
        :: true fi;
     user[me]=0;
     in_[o*NP+me]=0;                                                                             /* leave */
     vanish();
     atomic { o=0; was=0 }
  :: else -> break
  od
  } unless { dead[me] };
  atomic { o=0; n=0; was=0; d=0 } }
proctype Adv() { byte k; end_a: do :: k<KILLS -> atomic { k++; if :: dead[0]=1 :: dead[1]=1 fi } :: break od }
byte e;
init { atomic { run Proc(0); run Proc(1);
#if NP==3
  run Proc(2);
#endif
  run Adv() };
  timeout -> atomic { e=1;
    do :: e<=nobj -> assert(!USED(e) || life[e]==GONE || name==e); e++ :: else -> break od } }
