/* Taking a key over (pool/directory.c): blocks 1 … NP each replace whoever holds the key, which block 0 holds at first. A replacer
 * may be killed anywhere; then its reaper settles what it began. A looker must find a holder whenever it looks, and in the end there is
 * one block, the holder's.
 *
 * Left out: generations (a block lives once here), a key that nobody holds, and waiting; a reserved block that is not published is
 * never replaced.
 *
 * Variants that must fail: FREE_FIRST (the former goes before the slot is moved), NO_RELOOK (a looker takes a slot that was moved under
 * it for empty), NO_CHAIN (the former's former stays), NEWEST_FIRST (the former goes before its own former). */
#ifndef NP
#define NP 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef LOOKS
#define LOOKS 2
#endif
#define NONE 9
#define FREE 0
#define OWNED 1
#define KEPT 2
#define REPL 3   /* KEPT | REPLACING */
#define LIVE(b) (st[b] == KEPT || st[b] == REPL)

byte slot = 0;
byte st[NP + 1], former[NP + 1];
bool dead[NP + 1], done[NP + 1];
byte kills, looked;

#define MAYDIE if :: atomic { mortal && kills < KILLS -> kills++; dead[b] = true; goto end } :: skip fi

inline drop(b) { if :: atomic { LIVE(b) -> st[b] = FREE } :: else fi }

/* The former of `b`, if it is REPLACING, for as long as it is. */
inline former_of(b, to) {
    to = NONE;
    if
    :: b != NONE && b != holder_ && st[b] == REPL ->
        to = former[b];
        if :: st[b] == REPL :: else -> to = NONE fi
    :: else
    fi
}

/* former_drop: `f` had the key; if it is REPLACING itself, so had its own former, and so on. The oldest first. */
inline former_drop(f, holder) {
    holder_ = holder;
    if
    :: f == NONE || f == holder || !LIVE(f) -> skip
    :: else ->
        former_of(f, g);
        MAYDIE;
        former_of(g, k);
        MAYDIE;
#ifdef NEWEST_FIRST
        drop(f);
        MAYDIE;
#endif
#ifndef NO_CHAIN
        if :: k != NONE && k != holder_ -> drop(k) :: else fi;
        MAYDIE;
        if :: g != NONE && g != holder_ -> drop(g) :: else fi;
        MAYDIE;
#endif
        drop(f)
    fi
}

proctype replacer(byte b) {
    byte h, g, k, holder_;
    bool mortal = true;
    MAYDIE;
    atomic { st[b] == OWNED -> st[b] = REPL };
again:
    MAYDIE;
    h = slot;
    former[b] = h;
    MAYDIE;
#ifdef FREE_FIRST
    drop(h);
    MAYDIE;
#endif
    if
    :: atomic { slot == h -> slot = b } /* COMMIT */
    :: else -> goto again
    fi;
    MAYDIE;
    former_drop(h, b);
    MAYDIE;
    if :: atomic { st[b] == REPL -> st[b] = KEPT } :: else fi;
end:
    done[b] = true
}
/* directory_settle, and the sweep of what is OWNED. */
proctype reaper(byte b) {
    byte present, f, g, k, holder_;
    bool mortal = false;
    done[b];
    if
    :: !dead[b] -> goto end
    :: else
    fi;
    if :: atomic { st[b] == OWNED -> st[b] = FREE; goto end } :: else fi;
    if :: st[b] != REPL -> goto end :: else fi;
    present = slot;
    f = former[b];
    if :: st[b] != REPL -> goto end :: else fi;
    former_drop(f, present);
    if
    :: present == b -> if :: atomic { st[b] == REPL -> st[b] = KEPT } :: else fi
    :: else -> drop(b)
    fi;
end:
    skip
}

proctype looker() {
    byte h, n;
    do
    :: n < LOOKS ->
        h = slot;
look:
        if
        :: LIVE(h) -> n++
        :: else ->
#ifdef NO_RELOOK
            assert(false)
#else
            atomic { if :: slot == h -> assert(false) :: else -> h = slot; goto look fi }
#endif
        fi
    :: else -> break
    od;
    looked++
}

init {
    byte i;
    atomic {
        st[0] = KEPT;
        former[0] = NONE;
        i = 1;
        do
        :: i <= NP -> st[i] = OWNED; former[i] = NONE; run replacer(i); run reaper(i); i++
        :: else -> break
        od;
        run looker()
    };
    _nr_pr == 1;
    assert(looked == 1);
    assert(st[slot] == KEPT);
    i = 0;
    do
    :: i <= NP -> assert(i == slot || st[i] == FREE); i++
    :: else -> break
    od
}
