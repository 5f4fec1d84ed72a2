//! Two processes that answer each other through shared memory: the floor of every request.
//!
//! ```text
//!   client ── stores n in word 0, wakes ──► server       (this program with the hidden command `pong-server`)
//!          ◄── stores n in word 1, wakes ──
//! ```
//!
//! The memory and the bells come to the server through its standard input. It sleeps while the client does something
//! else, in each of the ways.

use super::handover::{hand_over, take_over};
use crate::cpu;
use crate::limits::SPIN;
use crate::limits::slices::slice;
use crate::process::{Process, find};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::thread::futex;
use serde::Serialize;
use snowskin_io::memory::SharedWords;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The hidden command.
pub(crate) const PONG_SERVER: &str = "pong-server";
/// Round trips while both spin are too short to be timed alone.
const SPUN_TURNS_AT_A_TIME: u32 = 16;
/// Between two looks at the clock while spinning.
const LOOKS_BY_TIME: u32 = 64;
/// A word for each side to hear by, and one for each to say that it sleeps.
const WORDS: usize = 4;
/// The number that ends the server.
const STOP: u32 = u32::MAX;

/// How a side waits for the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// Looks at the word for [`SPIN`]; then says that it sleeps, and does, at a futex.
    Spin,
    /// Sleeps at a futex at once.
    Futex,
    /// Reads an eventfd, which blocks.
    Eventfd,
}

impl Way {
    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ways = [Way::Spin, Way::Futex, Way::Eventfd];
        ways.into_iter().find(|way| way.name() == text).ok_or_else(|| format!("\"{text}\" is no way to wait"))
    }
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Server = 0,
    Client = 1,
}

/// What one side has.
struct End {
    side: Side,
    way: Way,
    words: SharedWords,
    /// The server's, the client's.
    bells: [OwnedFd; 2],
}

impl End {
    fn create(way: Way) -> io::Result<Self> {
        let bell = || eventfd(0, EventfdFlags::CLOEXEC);
        let bells = [bell()?, bell()?];
        Ok(End { side: Side::Client, way, words: SharedWords::create(WORDS)?, bells })
    }

    /// Hands all of it to the other side.
    fn hand_over(&self, socket: impl AsFd) -> io::Result<()> {
        let [server, client] = &self.bells;
        hand_over(socket, [self.words.file(), server.as_fd(), client.as_fd()])
    }

    fn take_over(way: Way, socket: impl AsFd) -> io::Result<Self> {
        let [words, server, client] = take_over(socket)?;
        Ok(End { side: Side::Server, way, words: SharedWords::open(words)?, bells: [server, client] })
    }

    fn mine(&self) -> usize {
        self.side as usize
    }

    fn other(&self) -> usize {
        1 - self.mine()
    }

    /// The word by which a side says that it sleeps.
    fn sleeps(&self, side: usize) -> &AtomicU32 {
        self.words.word(2 + side)
    }

    /// Tells the other side a number.
    fn say(&self, number: u32) -> io::Result<()> {
        let word = self.words.word(self.other());
        word.store(number, Ordering::SeqCst);
        match self.way {
            Way::Spin if self.sleeps(self.other()).load(Ordering::SeqCst) == 0 => {}
            Way::Spin | Way::Futex => {
                futex::wake(word, futex::Flags::empty(), 1)?;
            }
            Way::Eventfd => {
                rustix::io::write(&self.bells[self.other()], &1_u64.to_ne_bytes())?;
            }
        }
        Ok(())
    }

    /// Waits until the other side says another number than the one it has said last.
    fn hear(&self, last: u32) -> io::Result<u32> {
        let word = self.words.word(self.mine());
        match self.way {
            Way::Spin => match spin(word, last) {
                Some(number) => Ok(number),
                None => {
                    self.sleeps(self.mine()).store(1, Ordering::SeqCst);
                    let number = sleep(word, last);
                    self.sleeps(self.mine()).store(0, Ordering::SeqCst);
                    number
                }
            },
            Way::Futex => sleep(word, last),
            Way::Eventfd => loop {
                match rustix::io::read(&self.bells[self.mine()], &mut [0_u8; 8]) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                match word.load(Ordering::SeqCst) {
                    number if number != last => return Ok(number),
                    _ => {}
                }
            },
        }
    }
}

/// The clock is not looked at before the word has been for a while: that would cost more than the whole turn.
fn spin(word: &AtomicU32, last: u32) -> Option<u32> {
    let mut begun: Option<Instant> = None;
    loop {
        for _ in 0..LOOKS_BY_TIME {
            match word.load(Ordering::Acquire) {
                number if number != last => return Some(number),
                _ => std::hint::spin_loop(),
            }
        }
        if begun.get_or_insert_with(Instant::now).elapsed() >= SPIN {
            return None;
        }
    }
}

fn sleep(word: &AtomicU32, last: u32) -> io::Result<u32> {
    loop {
        match word.load(Ordering::SeqCst) {
            number if number != last => return Ok(number),
            _ => {}
        }
        match futex::wait(word, futex::Flags::empty(), last, None) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The hidden command: `pong-server WAY [CPU]` answers until it is killed.
pub(crate) fn serve_pongs(arguments: &[String]) -> io::Result<()> {
    let strange = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let [way, cpu @ ..] = arguments else { return Err(strange("in which way?".to_owned())) };
    let way = way.parse().map_err(strange)?;
    if let Some(cpu) = cpu.first() {
        cpu::pin_to(cpu.parse().map_err(|_| strange(format!("\"{cpu}\" is no CPU")))?)?;
    }
    let end = End::take_over(way, io::stdin())?;
    println!("{PONG_SERVER} is ready: {}", way.name());
    serve(&end)
}

fn serve(end: &End) -> io::Result<()> {
    let mut last = 0;
    loop {
        last = end.hear(last)?;
        if last == STOP {
            return Ok(());
        }
        end.say(last)?;
    }
}

/// The client's side, and the server.
pub(super) struct PingPong {
    end: End,
    last: u32,
    server: Option<Process>,
}

impl PingPong {
    /// Starts a server, pinned if asked.
    pub(super) fn start(way: Way, cpu: Option<usize>) -> Result<Self, String> {
        let refused = |error: io::Error| format!("ping-pong: {error}");
        let program = find(env!("CARGO_PKG_NAME")).map_err(|error| error.to_string())?;
        let arguments: Vec<String> =
            [PONG_SERVER.to_owned(), way.name()].into_iter().chain(cpu.map(|cpu| cpu.to_string())).collect();
        let (here, there) = UnixStream::pair().map_err(refused)?;
        let end = End::create(way).map_err(refused)?;
        // Into the socket's buffer: the server finds it there.
        end.hand_over(&here).map_err(refused)?;
        let ready = format!("{PONG_SERVER} is ready: ");
        let input = OwnedFd::from(there).into();
        let (server, _) = Process::start_with(PONG_SERVER, &program, &arguments, input, &ready)
            .map_err(|error| error.to_string())?;
        Ok(PingPong { end, last: 0, server: Some(server) })
    }

    /// The median round trip, in µs. A server that dies meanwhile keeps us waiting.
    pub(super) fn p50_us(&mut self, time: Duration) -> Result<f64, String> {
        if let Some(server) = &mut self.server {
            server.check_alive().map_err(|error| error.to_string())?;
        }
        let turns = if self.end.way == Way::Spin { SPUN_TURNS_AT_A_TIME } else { 1 };
        let measured = slice(time, || {
            (0..turns).try_for_each(|_| self.turn()).map_err(|error| format!("ping-pong: {error}"))
        })?;
        Ok(measured.p50_us / f64::from(turns))
    }

    fn turn(&mut self) -> io::Result<()> {
        let number = (self.last + 1) % STOP;
        self.end.say(number)?;
        let answer = self.end.hear(self.last)?;
        self.last = number;
        match answer {
            _ if answer == number => Ok(()),
            _ => Err(io::Error::other(format!("{answer} in answer to {number}"))),
        }
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        // Its process is killed if this fails.
        let _ = self.end.say(STOP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ping_is_answered_in_every_way() {
        for way in [Way::Spin, Way::Futex, Way::Eventfd] {
            assert_eq!(way.name().parse(), Ok(way));
            let (here, there) = UnixStream::pair().unwrap();
            let end = End::create(way).unwrap();
            end.hand_over(&here).unwrap();
            let server = std::thread::spawn(move || serve(&End::take_over(way, &there).unwrap()));
            let mut client = PingPong { end, last: 0, server: None };
            for _ in 0..2 {
                assert!(client.p50_us(Duration::from_millis(5)).unwrap() > 0.0);
                // Longer than a server spins.
                std::thread::sleep(Duration::from_millis(2));
            }
            assert!(client.last > 2);
            drop(client);
            server.join().unwrap().unwrap();
        }
    }

    #[test]
    fn numbers_go_round_without_the_one_that_ends() {
        let (here, there) = UnixStream::pair().unwrap();
        let end = End::create(Way::Futex).unwrap();
        end.hand_over(&here).unwrap();
        let server = std::thread::spawn(move || serve(&End::take_over(Way::Futex, &there).unwrap()));
        let mut client = PingPong { end, last: 0, server: None };
        client.turn().unwrap();
        client.end.say(STOP - 2).unwrap();
        assert_eq!(client.end.hear(1).unwrap(), STOP - 2);
        client.last = STOP - 2;
        for last in [STOP - 1, 0, 1] {
            client.turn().unwrap();
            assert_eq!(client.last, last);
        }
        drop(client);
        server.join().unwrap().unwrap();
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(serve_pongs(&[]).is_err());
        assert!(serve_pongs(&["shout".to_owned()]).unwrap_err().to_string().contains("no way to wait"));
        assert!(
            serve_pongs(&["spin".to_owned(), "x".to_owned()]).unwrap_err().to_string().contains("no CPU")
        );
    }
}
