//! iceoryx2 for the rows of the bench, with what its own documentation recommends: publish-subscribe with loans (nothing is
//! copied), retry until delivered where nothing may be lost, its event service where the receiver sleeps.
//!
//! Speaks as bench/bench.h says: a line of JSON when ready, a figure for each line of standard input. Helpers are this program.
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const VERSION: &str = "0.10.0";
const MIB: usize = 1 << 20;
const BUFFER: usize = 1024;

#[repr(C)]
#[derive(Debug, Clone, Copy, ZeroCopySend)]
struct Msg {
    last: u64,
    rest: [u64; 7],
}

/// What the command line says.
struct Bench {
    case: String,
    tag: String,
    cpus: Vec<usize>,
    helper: Option<usize>,
    ready: bool,
    all: Vec<u64>,
}

impl Bench {
    fn pin(&self, which: usize) {
        if self.cpus.is_empty() {
            return;
        }
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(self.cpus[which % self.cpus.len()], &mut set);
            libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set);
        }
    }
    /// The length of the next round; None: there is none.
    fn next(&mut self) -> Option<Duration> {
        if !self.ready {
            match self.helper {
                Some(_) => println!("0"),
                None => println!("{{\"name\":\"iceoryx2\",\"version\":\"{VERSION}\"}}"),
            }
            self.ready = true;
        }
        std::io::stdout().flush().unwrap();
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        line.trim().parse().ok().map(Duration::from_secs_f64)
    }
    fn figure(&self, value: f64) {
        match self.helper {
            Some(_) => println!("{value}"),
            None => println!("{{\"value\":{value}}}"),
        }
    }
    fn half_trips(&mut self, mut round: Vec<u64>) {
        self.all.extend_from_slice(&round);
        round.sort_unstable();
        self.all.sort_unstable();
        let at = |v: &Vec<u64>, p: f64| v[(p * v.len() as f64) as usize] as f64 / 2.0;
        let (all, n) = (&self.all, self.all.len());
        println!(
            "{{\"value\":{},\"p50\":{},\"p99\":{},\"p999\":{},\"samples\":{n}}}",
            at(&round, 0.5), at(all, 0.5), at(all, 0.99), at(all, 0.999)
        );
    }
    fn helper(&self, index: usize) -> Helper {
        let cpus: Vec<String> = self.cpus.iter().map(|c| c.to_string()).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&self.case, "--cpus", &cpus.join(","), "--tag", &self.tag, "--helper", &index.to_string()])
            .stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut helper = Helper { to: child.stdin.take(), from: BufReader::new(child.stdout.take().unwrap()), child };
        helper.figure();
        helper
    }
    fn node(&self) -> Node<ipc::Service> {
        let mut config = Config::default();
        let root = std::env::var("RESULTS").unwrap_or_else(|_| "/tmp".into()) + "/peers/iceoryx2/root";
        std::fs::create_dir_all(&root).unwrap();
        config.global.set_root_path(&Path::new(root.as_bytes()).unwrap());
        let prefix = std::env::var("CUE_PREFIX").unwrap_or_else(|_| "bench".into()) + ".";
        config.global.prefix = FileName::new(prefix.as_bytes()).unwrap();
        NodeBuilder::new().config(&config).signal_handling_mode(SignalHandlingMode::Disabled).create().unwrap()
    }
    fn name(&self, what: &str) -> ServiceName {
        format!("{}-{what}", self.tag).as_str().try_into().unwrap()
    }
}

struct Helper {
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    child: Child,
}

impl Helper {
    fn go(&mut self, round: Duration) {
        writeln!(self.to.as_mut().unwrap(), "{}", round.as_secs_f64()).unwrap();
    }
    fn figure(&mut self) -> f64 {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim().parse().expect("a helper ended before its time")
    }
    fn end(mut self) {
        self.to = None;
        self.child.wait().unwrap();
    }
}

fn until<T>(mut f: impl FnMut() -> Option<T>) -> T {
    for looks in 1u64.. {
        if let Some(found) = f() {
            return found;
        }
        if looks % 1024 == 0 {
            std::thread::yield_now(); // both may be on one CPU
        }
    }
    unreachable!()
}

/// Ping and pong: the first process measures, its helper answers. `send` says whether it is the round's last.
fn trips(b: &mut Bench, mut send: impl FnMut(bool), mut receive: impl FnMut() -> bool) {
    b.pin(b.helper.map_or(0, |_| 1));
    let mut helper = b.helper.is_none().then(|| b.helper(0));
    while let Some(length) = b.next() {
        let Some(helper) = helper.as_mut() else {
            while !receive() {
                send(false);
            }
            send(false);
            b.figure(0.0);
            continue;
        };
        helper.go(length);
        let mut samples = Vec::new();
        let begin = Instant::now();
        let mut last = begin;
        let mut more = true;
        while more {
            more = last - begin < length;
            send(!more);
            receive();
            let now = Instant::now();
            samples.push((now - last).as_nanos() as u64);
            last = now;
        }
        helper.figure();
        b.half_trips(samples);
    }
    if let Some(helper) = helper {
        helper.end();
    }
}

fn oneway(b: &mut Bench, asleep: bool) {
    let node = b.node();
    let service = |b: &Bench, way: &str| node.service_builder(&b.name(way)).publish_subscribe::<Msg>().open_or_create().unwrap();
    let events = |b: &Bench, way: &str| node.service_builder(&b.name(way)).event().open_or_create().unwrap();
    let (out, back) = if b.helper.is_none() { ("a", "b") } else { ("b", "a") };
    let subscriber = service(b, back).subscriber_builder().create().unwrap();
    let publisher = service(b, out).publisher_builder().create().unwrap();
    let listener = events(b, &format!("e{back}")).listener_builder().create().unwrap();
    let notifier: Notifier<ipc::Service> = events(b, &format!("e{out}")).notifier_builder().create().unwrap();
    let send = |last: bool| {
        publisher.loan_uninit().unwrap().write_payload(Msg { last: last as u64, rest: [7; 7] }).send().unwrap();
        if asleep {
            notifier.notify().unwrap();
        }
    };
    let receive = || {
        let mut heard = !asleep;
        while !heard {
            listener.blocking_wait(|_| heard = true).unwrap();
        }
        until(|| subscriber.receive().unwrap()).last != 0
    };
    trips(b, send, receive);
}

fn oneway_large(b: &mut Bench, bytes: usize) {
    let node = b.node();
    let service = |b: &Bench, way: &str| node.service_builder(&b.name(way)).publish_subscribe::<[u8]>().open_or_create().unwrap();
    let (out, back) = if b.helper.is_none() { ("a", "b") } else { ("b", "a") };
    let subscriber = service(b, back).subscriber_builder().create().unwrap();
    let publisher = service(b, out).publisher_builder().initial_max_slice_len(bytes).create().unwrap();
    let send = |last: bool| {
        let mut sample = publisher.loan_slice_uninit(bytes).unwrap();
        sample.payload_mut()[0].write(last as u8);
        unsafe { sample.assume_init() }.send().unwrap(); // the rest is not looked at
    };
    let receive = || until(|| subscriber.receive().unwrap()).payload()[0] != 0;
    trips(b, send, receive);
}

/// A request and its response, the client measures: half a round trip, as everywhere.
fn request(b: &mut Bench) {
    let node = b.node();
    let service = node.service_builder(&b.name("q")).request_response::<Msg, Msg>().open_or_create().unwrap();
    if b.helper.is_some() {
        b.pin(1);
        let server = service.server_builder().create().unwrap();
        while b.next().is_some() {
            loop {
                let asked = until(|| server.receive().unwrap());
                let last = asked.last;
                asked.loan_uninit().unwrap().write_payload(Msg { last, rest: [7; 7] }).send().unwrap();
                if last != 0 {
                    break;
                }
            }
            b.figure(0.0);
        }
        return;
    }
    b.pin(0);
    let client = service.client_builder().create().unwrap();
    let mut helper = b.helper(0);
    while let Some(length) = b.next() {
        helper.go(length);
        let mut samples = Vec::new();
        let begin = Instant::now();
        let mut last = begin;
        let mut more = true;
        while more {
            more = last - begin < length;
            let asked = client.loan_uninit().unwrap().write_payload(Msg { last: !more as u64, rest: [7; 7] }).send().unwrap();
            until(|| asked.receive().unwrap());
            drop(asked);
            let now = Instant::now();
            samples.push((now - last).as_nanos() as u64);
            last = now;
        }
        helper.figure();
        b.half_trips(samples);
    }
    helper.end();
}

/// One publisher here, each subscriber a process: messages a second that all of them get, none lost.
fn fanout(b: &mut Bench, subscribers: usize) {
    let node = b.node();
    let service = node.service_builder(&b.name("f")).publish_subscribe::<Msg>().enable_safe_overflow(false)
        .subscriber_max_buffer_size(BUFFER).max_subscribers(8).open_or_create().unwrap();
    if b.helper.is_some() {
        b.pin(1);
        let subscriber = service.subscriber_builder().buffer_size(BUFFER).create().unwrap();
        while b.next().is_some() {
            while until(|| subscriber.receive().unwrap()).last == 0 {}
            b.figure(0.0);
        }
        return;
    }
    b.pin(0);
    let publisher = service.publisher_builder().backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create().unwrap();
    let put = |last: u64| {
        publisher.loan_uninit().unwrap().write_payload(Msg { last, rest: [7; 7] }).send().unwrap();
    };
    let mut helpers: Vec<Helper> = (0..subscribers).map(|i| b.helper(i)).collect();
    while let Some(length) = b.next() {
        helpers.iter_mut().for_each(|h| h.go(length));
        let begin = Instant::now();
        let mut sent = 1u64;
        while begin.elapsed() < length {
            for _ in 0..64 {
                put(0);
            }
            sent += 64;
        }
        put(1);
        helpers.iter_mut().for_each(|h| { h.figure(); });
        b.figure(sent as f64 / begin.elapsed().as_secs_f64());
    }
    helpers.into_iter().for_each(Helper::end);
}

fn rate(b: &mut Bench, senders: usize) {
    let node = b.node();
    let service = node.service_builder(&b.name("r")).publish_subscribe::<Msg>().enable_safe_overflow(false)
        .subscriber_max_buffer_size(BUFFER).max_publishers(8).open_or_create().unwrap();
    if b.helper.is_some() {
        b.pin(1);
        let publisher = service.publisher_builder().backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create().unwrap();
        let put = |last: u64| {
            publisher.loan_uninit().unwrap().write_payload(Msg { last, rest: [7; 7] }).send().unwrap();
        };
        while let Some(length) = b.next() {
            let begin = Instant::now();
            while begin.elapsed() < length {
                for _ in 0..64 {
                    put(0);
                }
            }
            put(1);
            b.figure(0.0);
        }
        return;
    }
    b.pin(0);
    let subscriber = service.subscriber_builder().buffer_size(BUFFER).create().unwrap();
    let mut helpers: Vec<Helper> = (0..senders).map(|i| b.helper(i)).collect();
    while let Some(length) = b.next() {
        let begin = Instant::now();
        helpers.iter_mut().for_each(|h| h.go(length));
        let (mut got, mut ended) = (0u64, 0);
        while ended < senders {
            if until(|| subscriber.receive().unwrap()).last != 0 {
                ended += 1;
            }
            got += 1;
        }
        let seconds = begin.elapsed().as_secs_f64();
        helpers.iter_mut().for_each(|h| { h.figure(); });
        b.figure(got as f64 / seconds);
    }
    helpers.into_iter().for_each(Helper::end);
}

fn loan(b: &mut Bench, bytes: usize) {
    b.pin(0);
    let node = b.node();
    let service = node.service_builder(&b.name("l")).publish_subscribe::<[u8]>().open_or_create().unwrap();
    let publisher = service.publisher_builder().initial_max_slice_len(bytes).create().unwrap();
    while let Some(length) = b.next() {
        let begin = Instant::now();
        let mut pairs = 0;
        while begin.elapsed() < length {
            for _ in 0..64 {
                let mut sample = publisher.loan_slice_uninit(bytes).unwrap();
                sample.payload_mut()[0].write(1);
                drop(std::hint::black_box(sample));
            }
            pairs += 64;
        }
        b.figure(begin.elapsed().as_nanos() as f64 / pairs as f64);
    }
}

fn main() {
    set_log_level(LogLevel::Fatal);
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut b = Bench {
        case: args[0].clone(), tag: format!("bench-{}", std::process::id()), cpus: vec![], helper: None, ready: false, all: vec![],
    };
    for option in args[1..].chunks(2) {
        match option[0].as_str() {
            "--cpus" => b.cpus = option[1].split(',').filter_map(|c| c.parse().ok()).collect(),
            "--tag" => b.tag = option[1].clone(),
            "--helper" => b.helper = Some(option[1].parse().unwrap()),
            other => panic!("{other} is no option"),
        }
    }
    match b.case.clone().as_str() {
        "oneway.spin" => oneway(&mut b, false),
        "oneway.asleep" => oneway(&mut b, true),
        "oneway.1m" => oneway_large(&mut b, MIB),
        "oneway.64m" => oneway_large(&mut b, 64 * MIB),
        "request" => request(&mut b),
        "rate" => rate(&mut b, 1),
        "fanin.2" => rate(&mut b, 2),
        "fanin.4" => rate(&mut b, 4),
        "fanin.8" => rate(&mut b, 8),
        "fanout.1" => fanout(&mut b, 1),
        "fanout.2" => fanout(&mut b, 2),
        "fanout.4" => fanout(&mut b, 4),
        "fanout.8" => fanout(&mut b, 8),
        "loan.64" => loan(&mut b, 64),
        "loan.1m" => loan(&mut b, MIB),
        other => panic!("{other} is no case"),
    }
}
