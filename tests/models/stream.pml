/* Stream (one to one): a ring of places that are never emptied; `head` says how far the receiver is (channels/stream.c).
     send      p - head < N, by an old head if that says so. Small: into the place; else the record SENT at p. word := (lap, what)
     receive   up to two a call: small: copied out; else SENT -> OWNED. Then head := behind them
   Each end can die between two steps, and is followed by another one: the receiver goes on behind the last record from head on that is
   claimed, the sender at the first place from head on that is not full. Recovery frees a record that is SENT and in no place.

   Checked: what is copied is what was sent there, whole; nothing is given out twice or out of order; at most N wait; at the end every message that
   was sent was given out, unless a receiver died that had said so, or had claimed it or one behind it; no record is left SENT.
   Variants that must fail:
     -DWORD_FIRST   the word is set before the message is in its place
     -DHEAD_FIRST   head is said before the messages are copied
     -DNO_SKIP      a new receiver goes on at head
     -DNO_LAP       a new sender takes any place that was ever filled for a full one */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef M
#define M 4                                 /* positions */
#endif
#define N 2
#define SMALL 9
#define FREE 0
#define SENT 1
#define TAKEN 2                             /* by a receiver: freed there, or with it */
byte lap[N], what[N], content[N], head;     /* lap: plus 1, 0: never filled; what: SMALL, or a record: that of position p is p % 3 + 1 */
byte st[4], pos[4];
byte kills;
bool dead_s, dead_r, fin;
byte sent;                                  /* ghosts: positions below it were committed */
byte given;                                 /* positions below it were given out, or excused */
bool excused[M+1], out_[M+1];

#define full(q) (lap[(q) % N] == (q) / N + 1)

inline excuse(upto) { e = 0; do :: e < upto && e <= M -> excused[e] = 1; e++ :: else -> break od; e = 0 }   /* ghost: in a d_step */

proctype Sender() { byte p, seen, e;
restart:
  { seen = head; p = seen;
#ifdef NO_LAP
    do :: p - seen < N && lap[p % N] != 0 -> p++ :: else -> break od;
#else
    do :: p - seen < N && full(p) -> p++ :: else -> break od;
#endif
    do
    :: p < M ->
       if :: p - seen >= N -> seen = head :: else fi;
       if
       :: p - seen >= N -> (head != seen); seen = head
       :: else
       fi;
       if
       :: true ->                           /* small */
#ifdef WORD_FIRST
          d_step { assert(p - head < N); lap[p % N] = p / N + 1; what[p % N] = SMALL; sent = p + 1 };
          content[p % N] = p + 1
#else
          content[p % N] = p + 1;
          d_step { assert(p - head < N); lap[p % N] = p / N + 1; what[p % N] = SMALL; sent = p + 1 }     /* COMMIT */
#endif
       :: st[p % 3 + 1] != SENT ->          /* a record: another life of it */
          d_step { pos[p % 3 + 1] = p; st[p % 3 + 1] = SENT };
          d_step { assert(p - head < N); lap[p % N] = p / N + 1; what[p % N] = p % 3 + 1; sent = p + 1 }  /* COMMIT */
       fi;
       p++
    :: else -> break
    od
  } unless { dead_s };
  if
  :: dead_s -> /* recovery, then the next one */
     d_step { e = 1;
       do :: e <= 3 -> if :: st[e] == SENT && !(what[pos[e] % N] == e && lap[pos[e] % N] == pos[e] / N + 1) -> st[e] = FREE :: else fi; e++
          :: else -> break od;
       dead_s = 0; p = 0; seen = 0; e = 0 };
     goto restart
  :: else -> fin = 1
  fi }

proctype Receiver() { byte r, q, n, k, e, v; byte got[2];
restart:
  { q = head; r = q; n = 0;
#ifndef NO_SKIP
    do
    :: q - head < N && full(q) ->
       if
       :: what[q % N] == SMALL -> q++
       :: what[q % N] != SMALL && st[what[q % N]] == SENT && pos[what[q % N]] == q -> break
       :: else -> q++; r = q
       fi
    :: else -> break
    od;
#endif
    head = r; given = r; n = 0; q = 0;
    do
    :: full(r) && n < 2 && r < M ->
#ifdef HEAD_FIRST
       head = r + 1;
#endif
       if
       :: what[r % N] == SMALL -> v = content[r % N]; assert(v == r + 1)
       :: else -> d_step { v = what[r % N]; assert(st[v] == SENT && pos[v] == r); st[v] = TAKEN; excuse(r + 1) }
       fi;
       got[n] = r; n++; r++
    :: n > 0 ->
       d_step { head = r; excuse(r) };
       d_step { k = 0; do :: k < n -> assert(!out_[got[k]] && got[k] >= given); out_[got[k]] = 1; given = got[k] + 1; k++ :: else -> break od; n = 0; k = 0; v = 0 }
    :: n == 0 && r == M -> break
    :: n == 0 && r < M && !(full(r)) -> (full(r) || (fin && sent == r)); if :: fin && sent == r -> break :: else fi
    od
  } unless { dead_r };
  if
  :: dead_r -> d_step { dead_r = 0; r = 0; q = 0; n = 0; k = 0; v = 0; e = 0; got[0] = 0; got[1] = 0 }; goto restart
  :: else
  fi }

proctype Death() {
  do
  :: kills < KILLS -> kills++; if :: !fin -> dead_s = 1 :: dead_r = 1 fi
  :: break
  od }

init { byte i;
  atomic { run Sender(); run Receiver(); run Death() };
  timeout;
  do :: i < M -> assert(out_[i] || excused[i]); i++ :: else -> break od;
  i = 1;
  do :: i <= 3 -> assert(st[i] != SENT); i++ :: else -> break od }
