/* See send.h. */
#include "send.h"

#include "tap.h"

int send_several(void *ch, const struct lane_head *lane, const struct sending *how, const cue_msg *m, size_t n, int64_t deadline)
{
    size_t sent = 0;
    while (sent < n && sent < INT32_MAX) {
        int status;
        if (!lane_is_tapped(lane)) {
            status = how->batch(ch, m + sent, n - sent < SEND_BATCH ? (int)(n - sent) : SEND_BATCH);
            if ((status == CUE_EFULL || status == CUE_ENOMEM) && !sent)
                status = how->one(ch, m, deadline); /* this one waits */
        } else {                                    /* each is shown as it goes */
            if (sent && !how->room(ch, weight_of(m + sent)))
                break;
            status = how->one(ch, m + sent, sent ? 0 : deadline);
        }
        if (status < 0)
            return sent ? (int)sent : status;
        sent += (size_t)status;
    }
    return (int)sent;
}

int send_pack(struct cue_pool *pool, const cue_msg *m, bool system, int64_t *deadline, int (*over)(void *ch, bool signalled), void *ch,
              const struct opened *opened, struct parcel *out)
{
    struct room_until until = { .deadline = *deadline = deadline_made(*deadline), .over = over, .arg = ch };
    return message_pack(pool, m, system, &until, opened, out);
}
