/* Waiting for several channels at once.
 *
 * Each channel is asked without waiting, beginning behind the one that was served last. If none has anything, all doze, that is,
 * their lanes wake us as they would wake a receiver; then one sleep on the words of all (futex_wait_any), and all are roused.
 * A lane in which something happens between its doze and the sleep has changed its word, so the sleep does not happen.
 *
 * FAIR: each channel notes when it was served last, by a count of this process; the scan begins behind the youngest. So each
 * channel that has messages is served once before any is served a second time.
 *
 * If there is a socket among them, which has a descriptor and no word, all are waited for by their descriptors instead (poll.c).
 */
#include "poll.h"

#include "base/atomic.h"
#include "spin.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { ANY_MAX = FUTEX_WORDS_MAX };

struct set {
    cue_channel *const *ch;
    unsigned n, first; /* where the scan begins */
    bool sockets;
};

static _Atomic uint32_t served;

/* One look at all. The index, or CUE_EEMPTY, or what is wrong with one. */
static int look(const struct set *set, cue_msg *out)
{
    for (unsigned i = 0, at = set->first; i < set->n; i++, at = at + 1 == set->n ? 0 : at + 1) {
        cue_channel *ch = set->ch[at];
        int got = channel_take_now(ch, out);
        if (got > 0) {
            atomic_store_explicit(&ch->turn, atomic_fetch_add_explicit(&served, 1, relaxed) + 1, relaxed); /* private, as above */
            return (int)at;
        }
        if (got != CUE_EEMPTY)
            return *cue_trail() ? trail_in(got, "channel %u of cue_channel_recv_any", at) : got;
    }
    return CUE_EEMPTY;
}

/* Those with a descriptor of their own: it is kept right around all that happens here. */
static void all_before(const struct set *set)
{
    for (unsigned i = 0; i < set->n; i++)
        channel_recv_before(set->ch[i]);
}

static void all_after(const struct set *set, unsigned served_one)
{
    for (unsigned i = 0; i < set->n; i++)
        channel_recv_after(set->ch[i], i == served_one ? 1 : CUE_EEMPTY);
}

/* Who died unnoticed is cleaned up after, as in every wait. */
static int after_nap(const struct set *set, bool timed_out)
{
    const cue_pool *last = NULL;
    for (unsigned i = 0; i < set->n; i++) {
        cue_pool *pool = set->ch[i]->pool;
        if (pool == last)
            continue;
        last = pool;
        if (timed_out)
            pool_reap(pool);
        int status = pool_enter(pool);
        if (status)
            return status;
    }
    return 0;
}

static void before_sleep(const struct set *set)
{
    for (unsigned i = 0; i < set->n; i++)
        if (i == 0 || set->ch[i]->pool != set->ch[i - 1]->pool)
            pool_before_sleep(set->ch[i]->pool);
}

/* 0: look again. */
static int sleep_on_words(const struct set *set, int64_t nap)
{
    struct futex_word words[ANY_MAX] = { 0 };
    struct channel_sleep on;
    unsigned dozing = 0;
    bool look_again = false;
    int status = 0;
    for (; dozing < set->n && !look_again; dozing++) {
        cue_channel *ch = set->ch[dozing];
        if (!ch->ops->doze(ch, CUE_RECV, &on))
            break;
        words[dozing] = (struct futex_word){ on.word, on.value };
        look_again = atomic_load_explicit(&ch->woken, seq_cst) || /* pairs with: cue_channel_wake */
                     atomic_load_explicit(&ch->closing, seq_cst); /* pairs with: cue_channel_close */
    }
    if (dozing == set->n && !look_again) {
        before_sleep(set);
        status = futex_wait_any(words, set->n, nap);
    }
    for (unsigned i = 0; i < dozing; i++)
        set->ch[i]->ops->rouse(set->ch[i], CUE_RECV);
    return status;
}

static int sleep_on_descriptors(const struct set *set, int64_t nap)
{
    struct pollfd fds[ANY_MAX];
    for (unsigned i = 0; i < set->n; i++) {
        int fd = pollable_fd(set->ch[i]);
        if (fd < 0)
            return fd;
        fds[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
    }
    all_after(set, ANY_MAX); /* each is armed now, or readable */
    before_sleep(set);
    int saved = errno, ready = ppoll(fds, set->n, &(struct timespec){ nap / 1000000000, nap % 1000000000 }, NULL);
    int status = ready > 0 ? 0 : ready == 0 ? CUE_ETIMEDOUT : errno == EINTR ? CUE_EINTR : trail_errno("poll");
    errno = saved;
    all_before(set);
    return status;
}

static int wait_for_any(struct set *set, cue_msg *out, int64_t deadline)
{
    struct spin *spin = spin_of_thread();
    int64_t began = 0;
    for (;;) {
        int got = look(set, out);
        if (got != CUE_EEMPTY || deadline == 0)
            return got;
        int64_t now = clock_ns(), nap = deadline_nap(deadline);
        if (nap <= 0)
            return CUE_EEMPTY;
        if (!began)
            began = now;
        if (spin->most > 0 && now - began < spin->now) {
            cpu_relax();
            continue;
        }
        int status = set->sockets ? sleep_on_descriptors(set, nap) : sleep_on_words(set, nap);
        if (status && status != CUE_ETIMEDOUT)
            return status;
        if ((status = after_nap(set, status == CUE_ETIMEDOUT)))
            return status;
        if (!status)
            spin_learn(spin, clock_ns() - began);
    }
}

/* The place of the receiver in each, or in none. */
static int enter_all(struct set *set)
{
    uint32_t youngest = 0;
    int status = 0;
    unsigned i = 0;
    for (; i < set->n && !status; i++) {
        cue_channel *ch = set->ch[i];
        uint32_t turn = ch ? atomic_load_explicit(&ch->turn, relaxed) : 0; /* private */
        status = channel_recv_begin(ch);
        if (status) {
            trail_in(status, "channel %u of cue_channel_recv_any", i);
            break;
        }
        set->sockets |= !ch->ops->doze;
        if (turn && (int32_t)(turn - youngest) > 0) {
            youngest = turn;
            set->first = i + 1 == set->n ? 0 : i + 1;
        }
    }
    while (status && i > 0)
        channel_recv_end(set->ch[--i]);
    return status;
}

int cue_channel_recv_any(cue_channel *const *channels, size_t n, cue_msg *out, cue_time wait)
{
    if (out)
        memset(out, 0, sizeof *out);
    if (n == 0 || n > ANY_MAX)
        return trail(CUE_EINVAL, "cue_channel_recv_any: %zu channels: 1 to %d", n, ANY_MAX);
    if (!channels || !out)
        return trail(CUE_EINVAL, "cue_channel_recv_any: no %s given", out ? "channels" : "place for the message");
    struct set set = { .ch = channels, .n = (unsigned)n };
    int status = enter_all(&set);
    if (status)
        return status;
    all_before(&set);
    int got = wait_for_any(&set, out, deadline_of(wait));
    if (got < 0)
        memset(out, 0, sizeof *out);
    all_after(&set, got < 0 ? ANY_MAX : (unsigned)got);
    for (unsigned i = 0; i < set.n; i++)
        channel_recv_end(set.ch[i]); /* it may be gone after this */
    return got;
}
