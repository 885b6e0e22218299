// Boost.Interprocess' message_queue, 64 bytes a message: copied in and out under a mutex of the queue. Polled where we spin.
#include "bench/wire.h"

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>

#include <cstring>
#include <sched.h>
#include <string>

using boost::interprocess::message_queue;

namespace {

constexpr std::size_t depth = 1024;
enum how { spin, asleep, rate };

struct side {
    message_queue in, out;
    bool polled;
};

std::string queue_name(const bench *b, const char *way)
{
    return std::string(bench_tag(b)) + "-" + way;
}

void put(void *end, int what)
{
    side &s = *static_cast<side *>(end);
    unsigned char bytes[WIRE_BYTES];
    std::memset(bytes, what, sizeof bytes);
    if (!s.polled)
        s.out.send(bytes, sizeof bytes, 0);
    else
        while (!s.out.try_send(bytes, sizeof bytes, 0))
            bench_relax();
}

int take(void *end)
{
    side &s = *static_cast<side *>(end);
    unsigned char bytes[WIRE_BYTES];
    message_queue::size_type size;
    unsigned priority;
    if (!s.polled)
        s.in.receive(bytes, sizeof bytes, size, priority);
    else
        for (unsigned looks = 1; !s.in.try_receive(bytes, sizeof bytes, size, priority); looks++)
            if (looks % 1024 == 0) // both may be on one CPU
                sched_yield();
            else
                bench_relax();
    return bytes[0];
}

void run(bench *b, long how)
{
    using boost::interprocess::create_only;
    bench_pin(b, 0);
    const std::string here = queue_name(b, "here"), there = queue_name(b, "there");
    {
        side s{ { create_only, here.c_str(), depth, WIRE_BYTES }, { create_only, there.c_str(), depth, WIRE_BYTES }, how == spin };
        const wire w{ &s, put, take };
        if (how == rate)
            wire_receive(b, &w, 1);
        else
            wire_ping(b, &w);
    }
    message_queue::remove(here.c_str());
    message_queue::remove(there.c_str());
}

void help(bench *b, long how)
{
    using boost::interprocess::open_only;
    bench_pin(b, 1);
    side s{ { open_only, queue_name(b, "there").c_str() }, { open_only, queue_name(b, "here").c_str() }, how == spin };
    const wire w{ &s, put, take };
    (how == rate ? wire_send : wire_pong)(b, &w);
}

const bench_case cases[] = {
    { "oneway.spin", run, help, spin },
    { "oneway.asleep", run, help, asleep },
    { "rate", run, help, rate },
};

} // namespace

int main(int argc, char **argv)
{
    const std::string version = std::to_string(BOOST_VERSION / 100000) + "." + std::to_string(BOOST_VERSION / 100 % 1000);
    const bench_program program{ "Boost.Interprocess", version.c_str(), cases, sizeof cases / sizeof *cases };
    return bench_main(argc, argv, &program);
}
