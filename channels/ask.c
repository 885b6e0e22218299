/* Requests and answers.
 *
 * Who asks has a BOX, a mailbox of its own without a name, in the channel's pool; its address goes along in the message's `from`, and a
 * new number in `tag`. An answer is a message to that box with that tag. A box has one question at a time: it is kept for the
 * next when its answer has come, and closed and freed when the wait ended otherwise. So an answer that comes too late finds
 * nobody: who sent it frees it and counts it (`late`), and it never meets another question. A second answer to the same question
 * has the wrong tag, and is freed by who asks next.
 *
 * The box is a mortal mailbox (actor_lane.h): it goes with the asker's process, and what waits in it.
 *
 * THROUGH A SOCKET the address travels along. Who can map the asker's pool answers there. Who cannot answers through the socket
 * (nng/answer.c): its answer is given to the asker's box in process memory, by box and tag of the question that waits, and the asker
 * itself copies it into its pool. Whether who took the question is there the sending channel knows: a message that was
 * never sent is nobody's yet, and waits for a receiver; one that was acknowledged is the receiver's of that session; one that was not
 * may be, and is sent again to the next one that comes. It is over when another receiver has the address, of what was
 * acknowledged, or when there is none for some looks.
 *
 * WHO ENDS A WAIT. An answer; the time-out; cue_channel_wake, cue_channel_close; and the death of who was to answer:
 *   - it died with the question in its hands (OWNED by it): whoever sweeps up after it answers CUE_EDEAD in its place, before the
 *     record is freed (ask_settle); so does who buries an actor's mailbox or drops a question from a full lane.
 *   - it died, or left, after it had released the question: the asker looks now and then at who has the question, or has the
 *     receiving end of its lane, and notes it; when that one is gone, and so is the question, nobody will answer.
 * A question that still waits in its lane stays there for the next receiver, and so does its asker; one that a queue gives out again
 * as well, until it is a dead letter.
 * Told twice is harmless: the second finds no box, or the wrong tag.
 */
#include "ask.h"

#include "actor_lane.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { BOX_DEPTH = 64, BOX_LINKS = 16, FIRST_LOOK_NS = 2000000, AWAY_LOOKS = 4 };

struct ask_box {
    struct ask_box *next;  /* of the channel; stays in its list until that is closed */
    _Atomic uint32_t busy; /* somebody asks with it */
    bool made;             /* it has a mailbox */
    /* who wakes: NULL while there is no mailbox. After that it may still be woken, which does no harm */
    _Atomic(_Atomic uint32_t *) word;
    _Atomic bool died;             /* the watched party */
    uint64_t wanted;               /* sockets: the tag that is waited for, 0: none; under far_lock */
    _Atomic(struct ask_far *) far; /* the answer that came through the socket; written under far_lock */
    struct lane_end end;
    struct link links[BOX_LINKS];
    struct near_slabs near_slabs;
};

/* One question under way. */
struct question {
    cue_channel *ch;
    struct ask_box *box;
    uint64_t tag;
    struct record *rec; /* the message's; NULL: not known, it went through a socket */
    uint64_t generation;
    bool noted; /* who has or had it */
    unsigned slot;
    uint32_t epoch;
    struct watch *watch; /* of that party */
    uint64_t number;     /* its message's on a socket, see channel_ops; 0: none */
    unsigned away;       /* so often who took it was not connected */
};

_Thread_local struct ask_note ask_packed;
int (*ask_reply_to_actor)(const cue_msg *request, const cue_msg *answer);

static _Atomic uint64_t tags;

/* ---- boxes ---- */

static int box_make(cue_pool *pool, struct ask_box *box)
{
    int status = lane_end_make(pool, NULL, BOX_DEPTH, NULL, 0, &box->end);
    if (status)
        return status;
    status = lane_end_publish(&box->end);
    if (status) {
        cue_block_release(&box->end.block);
        return status;
    }
    lane_end_use(&box->end, box->links, BOX_LINKS, &box->near_slabs);
    box->made = true;
    atomic_store_explicit(&box->word, futex_low_half(&box->end.ch.box->head), release); /* pairs with: box_nudge */
    return 0;
}

/* What came for the last question after its answer. */
static void box_empty(cue_channel *ch, struct ask_box *box)
{
    cue_msg m;
    while (lane_end_take(&box->end, &m) > 0) {
        atomic_fetch_add_explicit(&ch->late, 1, relaxed); /* a count for people */
        cue_msg_release(&m);
    }
}

/* What came too late is freed; what comes later finds nobody. */
static void box_end(cue_channel *ch, struct ask_box *box)
{
    if (!box->made)
        return;
    box->made = false;
    atomic_store_explicit(&box->word, NULL, release); /* pairs with: box_nudge */
    lane_end_close(&box->end);                        /* !! */
    box_empty(ch, box);
    lane_end_free(&box->end);
}

static int box_take(cue_channel *ch, struct ask_box **out)
{
    struct ask_box *box = atomic_load_explicit(&ch->ask_boxes, acquire); /* pairs with: the push below */
    while (box && atomic_exchange_explicit(&box->busy, 1, acquire))      /* pairs with: box_give */
        box = box->next;
    if (!box) {
        box = aligned_alloc(_Alignof(struct ask_box), sizeof *box);
        if (!box)
            return trail(CUE_ENOMEM, "no process memory for a question");
        memset(box, 0, sizeof *box);
        atomic_store_explicit(&box->busy, 1, relaxed); /* nobody knows it yet */
        box->next = atomic_load_explicit(&ch->ask_boxes, relaxed);
        while (!atomic_compare_exchange_weak_explicit(&ch->ask_boxes, &box->next, box, release, relaxed)) /* pairs with: the load above */
            ;
    }
    *out = box;
    atomic_store_explicit(&box->died, false, relaxed); /* what is left of the last question */
    atomic_store_explicit(&box->end.ch.halt.woken, 0, relaxed);
    int status = 0;
    if (box->made)
        box_empty(ch, box);
    else
        status = box_make(ch->pool, box);
    if (status)
        atomic_store_explicit(&box->busy, 0, release);
    return status;
}

static void box_give(cue_channel *ch, struct ask_box *box, bool keep)
{
    if (!keep)
        box_end(ch, box);
    atomic_store_explicit(&box->busy, 0, release); /* pairs with: box_take */
}

/* Ends its wait, if there is one. Async-signal-safe. */
static void box_nudge(struct ask_box *box, _Atomic uint32_t *flag)
{
    _Atomic uint32_t *word = atomic_load_explicit(&box->word, acquire); /* pairs with: box_make, box_end */
    if (!word)
        return;
    atomic_store_explicit(flag, 1, seq_cst); /* pairs with: the mailbox's look before it sleeps */
    futex_wake(word, INT_MAX);               /* who looked before this and sleeps after it looks again a watch period later */
}

/* ---- answers through sockets ---- */

/* Who looks for a box, and who frees them. */
static pthread_mutex_t far_lock = PTHREAD_MUTEX_INITIALIZER;

/* From now on, for `tag`; or for nothing any more, tag 0: and whatever came is freed. */
static void far_want(cue_channel *ch, struct ask_box *box, uint64_t tag)
{
    if (!ch->ops->whereabouts)
        return;
    pthread_mutex_lock(&far_lock);
    box->wanted = tag;
    struct ask_far *late = atomic_exchange_explicit(&box->far, NULL, relaxed); /* under far_lock */
    pthread_mutex_unlock(&far_lock);
    free(late);
}

bool ask_deliver(cue_channel *ch, cue_ref from, uint64_t tag, struct ask_far *answer)
{
    bool found = false;
    pthread_mutex_lock(&far_lock);
    struct ask_box *box = atomic_load_explicit(&ch->ask_boxes, acquire); /* pairs with: box_take */
    while (box && (!tag || box->wanted != tag))
        box = box->next;
    if (box) {
        const struct lane *lane = &box->end.ch.lane;
        found = from.node == ASK_NODE && from.process == (uint32_t)ch->pool->uid && from.index == lane->index &&
                from.generation == (uint32_t)lane->generation;
    }
    if (found) {
        box->wanted = 0;
        atomic_store_explicit(&box->far, answer, seq_cst); /* pairs with: far_take, before the nudge */
        box_nudge(box, &box->end.ch.halt.woken);
    } else {
        atomic_fetch_add_explicit(&ch->late, 1, relaxed); /* a count for people */
    }
    pthread_mutex_unlock(&far_lock);
    return found;
}

void ask_deliver_status(cue_channel *ch, cue_ref from, uint64_t tag, int status)
{
    struct ask_far *answer = from.node == ASK_NODE ? calloc(1, sizeof *answer) : NULL;
    if (!answer)
        return;
    answer->status = status;
    if (!ask_deliver(ch, from, tag, answer))
        free(answer);
}

static int copy_in(cue_pool *pool, const void *bytes, size_t size, cue_block *out)
{
    int status = cue_block_alloc(pool, size, NULL, out);
    if (!status && size)
        memcpy(out->data, bytes, size);
    if (!status)
        atomic_fetch_add_explicit(&pool->copied, size, relaxed); /* a count for people */
    return status;
}

/* As a message in the asker's own pool. */
static int far_read(cue_pool *pool, const struct ask_far *far, cue_msg *out)
{
    struct block_ref ref;
    cue_block copy = { 0 };
    memset(out, 0, sizeof *out);
    out->type = far->type;
    out->status = far->status;
    out->key = far->key;
    int status = far->nbytes ? copy_in(pool, far->bytes, far->nbytes, &copy) : 0;
    if (!status && far->has_block)
        status = copy_in(pool, far->bytes + far->nbytes, far->size, &out->block);
    memcpy(out->priv, copy.priv, sizeof copy.priv);
    if (status) {
        cue_msg_release(out);
        return trail_in(status, "the answer has come, and finds no room");
    }
    out->data = far->has_bytes ? copy.data : out->block.data;
    out->size = far->has_bytes ? far->nbytes : out->block.size;
    if (far->has_block && handle_open(&out->block, &ref) == 0)
        atomic_store_explicit(&ref.rec->type, far->block_type, relaxed); /* ours */
    if (!far->has_bytes && !out->type)
        out->type = far->block_type;
    return 0;
}

/* 1: it is there; 0: not yet. */
static int far_take(cue_channel *ch, struct ask_box *box, cue_msg *answer)
{
    struct ask_far *far = ch->ops->whereabouts ? atomic_exchange_explicit(&box->far, NULL, seq_cst) : NULL; /* pairs with: ask_deliver */
    if (!far)
        return 0;
    int status = far_read(ch->pool, far, answer);
    free(far);
    return status ? status : 1;
}

/* ---- wake, close ---- */

void ask_wake(cue_channel *ch)
{
    for (struct ask_box *box = atomic_load_explicit(&ch->ask_boxes, acquire); box; box = box->next)
        if (atomic_load_explicit(&box->busy, relaxed)) /* a hint */
            box_nudge(box, &box->end.ch.halt.woken);
}

void ask_close(cue_channel *ch)
{
    struct ask_box *next, *box;
    bool ours = ch->forks == fork_epoch;                         /* else they are the parent's */
    while (ours && atomic_load_explicit(&ch->asking, seq_cst)) { /* pairs with: cue_channel_ask */
        for (struct ask_box *b = atomic_load_explicit(&ch->ask_boxes, acquire); b; b = b->next)
            box_nudge(b, &b->end.ch.halt.closing);
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    }
    if (ours)
        pthread_mutex_lock(&far_lock);
    box = atomic_exchange_explicit(&ch->ask_boxes, NULL, acquire);
    if (ours)
        pthread_mutex_unlock(&far_lock);
    for (; box; box = next) {
        next = box->next;
        if (ours)
            box_end(ch, box);
        free(atomic_load_explicit(&box->far, relaxed)); /* nobody is left */
        free(box);
    }
}

/* They are the parent's; so are the threads that ask. */
void ask_forked(cue_channel *ch)
{
    atomic_store_explicit(&ch->ask_boxes, NULL, relaxed);
    atomic_store_explicit(&ch->asking, 0, relaxed);
}

/* ---- who is to answer ---- */

static void replier_died(void *arg, struct cue_pool *pool, unsigned slot, uint32_t epoch)
{
    struct ask_box *box = arg;
    (void)pool, (void)slot, (void)epoch;
    atomic_store_explicit(&box->died, true, seq_cst); /* pairs with: its asker's look */
    box_nudge(box, &box->end.ch.halt.woken);
}

static void replier_note(struct question *q, unsigned slot, uint32_t epoch)
{
    if (q->noted && q->slot == slot && q->epoch == epoch)
        return;
    watch_end(q->watch);
    q->watch = NULL;
    q->noted = true;
    q->slot = slot;
    q->epoch = epoch;
}

static bool replier_lives(const struct question *q)
{
    uint64_t word = atomic_load_explicit(&q->ch->pool->parties[q->slot].word, acquire);
    return party_state(word) == PARTY_LIVE && party_epoch(word) == q->epoch && !party_dead(q->ch->pool, q->slot, party_epoch(word));
}

/* Whether somebody has cleaned up after it: what it had in its hands has gone where it goes. */
static bool replier_swept(const struct question *q)
{
    uint64_t word = atomic_load_explicit(&q->ch->pool->parties[q->slot].word, acquire); /* pairs with: reap */
    return party_state(word) != PARTY_LIVE || party_epoch(word) != q->epoch;
}

/* Notes who has it. Whether it waits in its lane. */
static bool question_waits(struct question *q)
{
    cue_pool *pool = q->ch->pool;
    struct lane lane;
    uint64_t state = atomic_load_explicit(&q->rec->state, acquire);
    if (rec_generation(state) != q->generation)
        return false;
    unsigned party = rec_party(state);
    if (rec_state(state) == REC_OWNED && party >= 1 && party <= pool->max_parties) {
        uint64_t word = atomic_load_explicit(&pool->parties[party - 1].word, acquire);
        if (atomic_load_explicit(&q->rec->state, acquire) == state) /* so the slot has not changed hands */
            replier_note(q, party - 1, party_epoch(word));
        return false;
    }
    if (rec_state(state) == REC_KEPT) /* between two receivers, see redeliver.c */
        return true;
    if (rec_state(state) != REC_SENT)
        return false;
    if (lane_enter(pool, atomic_load_explicit(&q->rec->lane, relaxed), &lane)) { /* checked by lane_enter */
        uint64_t receiver = atomic_load_explicit(&lane.head->receiver, acquire);
        if (receiver_party(receiver) >= 1 && receiver_party(receiver) <= pool->max_parties)
            replier_note(q, receiver_party(receiver) - 1, receiver_epoch(receiver));
        lane_leave(&lane);
    }
    return true;
}

/* Of a question that went through a socket: it is over with who took it, if that is not connected for some looks. */
static bool taker_gone(struct question *q)
{
    enum whereabouts where = q->number ? q->ch->ops->whereabouts(q->ch, q->number) : TAKER_THERE;
    q->away = where == TAKER_AWAY ? q->away + 1 : 0;
    return where == TAKER_GONE || q->away == AWAY_LOOKS;
}

/* Whether nobody is left who could answer. */
static bool nobody_will_answer(struct question *q)
{
    if (!q->rec)
        return taker_gone(q);
    bool waits = question_waits(q);
    if (waits || !q->noted || replier_lives(q))
        return false;
    pool_reap(q->ch->pool); /* which may put it back into its lane */
    unsigned slot = q->slot;
    uint32_t epoch = q->epoch;
    if (!replier_swept(q)) /* somebody else is at it, and has not come to the question yet */
        return false;
    return !question_waits(q) && q->slot == slot && q->epoch == epoch; /* else another one has it by now */
}

static void watch_replier(struct question *q)
{
    if (q->noted && !q->watch && q->slot != q->ch->pool->self)
        watch_party(q->ch->pool, q->slot, q->epoch, replier_died, q->box, &q->watch); /* fails: then within a watch period */
}

/* ---- ask ---- */

/* 1: the answer is there; 0: not yet. */
static int answer_take(struct question *q, cue_msg *answer)
{
    int got = far_take(q->ch, q->box, answer);
    if (got)
        return got;
    while ((got = lane_end_take(&q->box->end, answer)) > 0) {
        if (answer->tag == q->tag)
            return 1;
        atomic_fetch_add_explicit(&q->ch->late, 1, relaxed); /* a count for people */
        cue_msg_release(answer);
    }
    return got;
}

static int answer_wait(struct question *q, int64_t deadline, cue_msg *answer)
{
    int64_t step = FIRST_LOOK_NS;
    for (;;) {
        int status = answer_take(q, answer);
        if (status)
            return status < 0 ? status : 0;
        if (deadline == 0)
            return CUE_ETIMEDOUT;
        if (atomic_exchange_explicit(&q->ch->woken, 0, seq_cst)) /* pairs with: cue_channel_wake */
            return CUE_EINTR;
        int64_t now = clock_ns(), until = now + step < deadline ? now + step : deadline;
        status = until > now ? lane_end_wait(&q->box->end, until) : CUE_EEMPTY;
        if (!status)
            continue;
        bool died = atomic_exchange_explicit(&q->box->died, false, seq_cst); /* pairs with: replier_died */
        bool came = atomic_load_explicit(&q->box->far, seq_cst);             /* pairs with: ask_deliver */
        if (came)
            continue;
        if (status == CUE_EINTR && !died)
            atomic_store_explicit(&q->ch->woken, 0, seq_cst); /* it was this */
        if (status != CUE_EEMPTY && !(status == CUE_EINTR && died))
            return status;
        bool over = nobody_will_answer(q);
        if ((status = answer_take(q, answer))) /* it may have been the last thing that was done */
            return status < 0 ? status : 0;
        if (over)
            return trail(CUE_EDEAD, "who received the question is dead and has not answered");
        if (clock_ns() >= deadline)
            return CUE_ETIMEDOUT;
        watch_replier(q);
        step = WATCH_PERIOD_NS;
    }
}

static int exchange(cue_channel *ch, struct ask_box *box, const cue_msg *m, int64_t deadline, cue_msg *answer)
{
    const struct lane *lane = &box->end.ch.lane;
    struct question q = { .ch = ch, .box = box, .tag = atomic_fetch_add_explicit(&tags, 1, relaxed) + 1 }; /* private */
    cue_msg request = *m;
    request.tag = q.tag;
    request.from = (cue_ref){ ASK_NODE, (uint32_t)ch->pool->uid, lane->index, (uint32_t)lane->generation };
    if (ch->ops->receiver) {
        uint64_t receiver = ch->ops->receiver(ch);
        if (receiver_party(receiver) >= 1 && receiver_party(receiver) <= ch->pool->max_parties)
            replier_note(&q, receiver_party(receiver) - 1, receiver_epoch(receiver));
    }
    ask_packed = (struct ask_note){ .index = INDEX_NONE };
    far_want(ch, box, q.tag);
    int status = channel_send(ch, &request, deadline);
    if (status < 0) {
        far_want(ch, box, 0);
        return status;
    }
    if (ask_packed.index != INDEX_NONE) {
        q.rec = pool_record(ch->pool, ask_packed.index);
        q.generation = ask_packed.generation;
    } else if (ch->ops->whereabouts) {
        q.number = ask_packed.number;
    }
    status = answer_wait(&q, deadline, answer);
    far_want(ch, box, 0);
    watch_end(q.watch);
    if (status)
        return status;
    answer->tag = m->tag;
    return 1;
}

int cue_channel_ask(cue_channel *ch, const cue_msg *m, cue_time wait, cue_msg *answer)
{
    struct ask_box *box = NULL;
    if (answer)
        memset(answer, 0, sizeof *answer);
    int status = channel_enter(ch);
    if (status)
        return status;
    if (!m || !answer)
        return trail(CUE_EINVAL, "cue_channel_ask: no %s given", m ? "place for the answer" : "message");
    if (!(ch->how & CUE_SEND))
        return trail(CUE_EINVAL, "the channel was not opened to send: CUE_SEND");
    if (!ch->ops->asks)
        return trail(CUE_ENOSYS, "cue_channel_ask: what goes through a channel of this kind cannot be answered");
    int64_t deadline = deadline_of(wait);
    atomic_fetch_add_explicit(&ch->asking, 1, seq_cst); /* pairs with: ask_close (my write, then your word) */
    status = atomic_load_explicit(&ch->closing, seq_cst) ? CUE_ECLOSED : box_take(ch, &box);
    if (!status) {
        status = exchange(ch, box, m, deadline, answer);
        box_give(ch, box, status == 1);
    }
    atomic_fetch_sub_explicit(&ch->asking, 1, seq_cst); /* it may be gone after this */
    if (status != 1)
        return status;
    status = answer->status < 0 ? answer->status : 0;
    if (status && !answer->size && !answer->block.priv[0])
        cue_msg_release(answer); /* nothing but the status: nobody need give it back */
    return status;
}

/* ---- reply ---- */

static bool is_pool_of(const cue_pool *pool, const cue_msg *request)
{
    return atomic_load_explicit(&pool->open, acquire) == 1 && (!is_question(request) || (uint32_t)pool->uid == request->from.process);
}

/* The pool of the asker's box: usually that of the request itself. */
static cue_pool *asker_pool(const cue_msg *request)
{
    cue_pool *pool = &pool_table[request->priv[0] >> 32 & (POOLS_MAX - 1)];
    if (request->priv[0] && is_pool_of(pool, request))
        return pool;
    if (!is_question(request))
        return NULL;
    for (unsigned i = 0; i < POOLS_MAX; i++)
        if (is_pool_of(&pool_table[i], request))
            return &pool_table[i];
    return NULL;
}

/* Counts where the question came from. */
static void count_late(cue_pool *pool, const cue_msg *request)
{
    cue_block envelope = { .priv = { request->priv[0], request->priv[1], request->priv[2] } };
    struct block_ref ref;
    struct lane lane;
    if (!request->priv[0] || handle_open(&envelope, &ref) || ref.pool != pool)
        return;
    if (lane_enter(pool, atomic_load_explicit(&ref.rec->lane, relaxed), &lane)) { /* checked by lane_enter */
        atomic_fetch_add_explicit(&lane.head->late, 1, relaxed);                  /* a count for people */
        lane_leave(&lane);
    }
}

static int box_push(cue_pool *pool, cue_ref to, const cue_msg *m, bool system)
{
    struct lane_address address;
    int status = lane_address_open(pool, to.index, to.generation, &address);
    if (status)
        return status;
    status = lane_address_push(&address, m, system);
    lane_address_close(&address);
    return status;
}

int cue_reply(const cue_msg *request, const cue_msg *answer)
{
    if (!request || !answer)
        return trail(CUE_EINVAL, "cue_reply: no %s given", request ? "answer" : "request");
    if (cue_ref_same(request->from, (cue_ref){ 0 }))
        return trail(CUE_EINVAL, "cue_reply: the request has no sender");
    if (message_is_tapped(request))
        return trail(CUE_EPERM, "cue_reply: this is a tap's copy of the request, and who received it answers");
    int status = is_question(request) || !ask_reply_to_actor ? 1 : ask_reply_to_actor(request, answer);
    if (status <= 0)
        return status;
    if (is_question(request) && request->priv[3] & 1 && (status = nng_reply(request, answer)) <= 0) /* bit 0: see cue_msg_peer */
        return status;
    cue_pool *pool = asker_pool(request);
    status = pool ? pool_enter(pool) : trail(CUE_EREMOTE, "cue_reply: the asker's pool is not open in this process");
    if (status)
        return status;
    cue_msg m = *answer;
    m.tag = request->tag;
    status = box_push(pool, request->from, &m, false);
    if (status != CUE_EDEAD && status != CUE_EFULL) /* full: of answers to the same question */
        return status;
    count_late(pool, request);
    if (m.move)
        cue_block_release(m.move);
    return 0;
}

void ask_refuse(cue_pool *pool, const cue_msg *m, int status)
{
    if (is_question(m) && (uint32_t)pool->uid == m->from.process)
        box_push(pool, m->from, &(cue_msg){ .tag = m->tag, .status = status }, true); /* fails: the asker finds out by itself, or later */
}

void ask_settle(cue_pool *pool, struct record *rec, uint32_t index)
{
    struct message_header header;
    char *data;
    uint64_t capacity;
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* of a dead owner: nobody changes it */
    if (!(note & NOTE_MESSAGE) || !(note & MESSAGE_HEADER) || !pool_bytes(pool, index, &data, &capacity) || capacity < sizeof header)
        return;
    memcpy(&header, data, sizeof header);
    ask_refuse(pool, &(cue_msg){ .from = header.from, .tag = atomic_load_explicit(&rec->id, relaxed) }, CUE_EDEAD);
}
