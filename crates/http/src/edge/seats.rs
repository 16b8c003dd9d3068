//! How many connections are open at a time: of the process, and of one address. Who comes when there is no room is not
//! left waiting: a few at a time are heard in a lobby, for one quick answer (`serve`), and whoever finds that full as
//! well is cut.
//!
//! Behind a trusted proxy one connection carries many clients, so there each request under way counts as one of its
//! client's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::address::Block;

/// Most connections that are turned away with an answer at a time.
const LOBBY: usize = 64;
/// Of them, of one address.
const LOBBY_OF_ADDRESS: usize = 4;

/// What there is no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The process.
    House,
    /// The share of the address.
    Address,
}

/// The seats of a process.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    most_of_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    house: Room,
    lobby: Room,
}

#[derive(Debug, Default)]
struct Room {
    all: usize,
    of: HashMap<Block, usize>,
}

impl Room {
    fn of(&self, block: Option<Block>) -> usize {
        block.and_then(|block| self.of.get(&block)).copied().unwrap_or(0)
    }

    fn enter(&mut self, weight: usize, block: Option<Block>) {
        self.all += weight;
        if let Some(block) = block {
            *self.of.entry(block).or_default() += 1;
        }
    }

    fn leave(&mut self, weight: usize, block: Option<Block>) {
        self.all -= weight;
        let Some(block) = block else { return };
        if let Some(n) = self.of.get_mut(&block) {
            *n -= 1;
            if *n == 0 {
                self.of.remove(&block);
            }
        }
    }
}

/// A seat, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    /// Nothing for a request of a connection that has a seat itself.
    weight: usize,
    block: Option<Block>,
    turned_away: Option<Full>,
}

impl Seat {
    /// Why whoever has it is to be turned away, if so.
    pub(crate) fn turned_away(&self) -> Option<Full> {
        self.turned_away
    }
}

impl Seats {
    pub(crate) fn new(most: usize, most_of_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_address, taken: Mutex::default() })
    }

    /// A seat for a connection, of this address where its address counts; one in the lobby where there is none; nothing
    /// where that is full too.
    pub(crate) fn connection(self: &Arc<Self>, block: Option<Block>) -> Option<Seat> {
        let mut taken = self.lock();
        let full = match () {
            () if taken.house.of(block) >= self.most_of_address => Some(Full::Address),
            () if taken.house.all >= self.most => Some(Full::House),
            () => None,
        };
        if full.is_some() {
            if taken.lobby.all >= LOBBY || taken.lobby.of(block) >= LOBBY_OF_ADDRESS {
                return None;
            }
            taken.lobby.enter(1, block);
        } else {
            taken.house.enter(1, block);
        }
        Some(Seat { seats: self.clone(), weight: 1, block, turned_away: full })
    }

    /// A seat for a request that a proxy brought from this address.
    pub(crate) fn forwarded(self: &Arc<Self>, block: Block) -> Option<Seat> {
        let mut taken = self.lock();
        if taken.house.of(Some(block)) >= self.most_of_address {
            return None;
        }
        taken.house.enter(0, Some(block));
        Some(Seat { seats: self.clone(), weight: 0, block: Some(block), turned_away: None })
    }

    /// How many connections there are, without the lobby's.
    pub(crate) fn open(&self) -> usize {
        self.lock().house.all
    }

    /// How many there may be.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        let room = if self.turned_away.is_some() { &mut taken.lobby } else { &mut taken.house };
        room.leave(self.weight, self.block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(n: u8) -> Option<Block> {
        Some(Block::V4([192, 0, 2, n].into()))
    }

    #[test]
    fn one_address_has_its_share_and_leaves_room_for_others() {
        let seats = Seats::new(10, 3);
        let mine: Vec<_> = (0..3).map(|_| seats.connection(block(1)).unwrap()).collect();
        assert!(mine.iter().all(|seat| seat.turned_away().is_none()));
        let fourth = seats.connection(block(1)).unwrap();
        assert_eq!(fourth.turned_away(), Some(Full::Address));
        assert_eq!(seats.connection(block(2)).unwrap().turned_away(), None);
        drop(mine);
        assert_eq!(seats.connection(block(1)).unwrap().turned_away(), None);
        drop(fourth);
        let taken = seats.lock();
        assert_eq!(
            (taken.house.all, taken.house.of.len(), taken.lobby.all, taken.lobby.of.len()),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn a_full_house_turns_a_few_away_with_an_answer_and_cuts_the_others() {
        let seats = Seats::new(2, 2);
        let guests: Vec<_> = (0..2).map(|n| seats.connection(block(n)).unwrap()).collect();
        let mut lobby: Vec<_> = std::iter::from_fn(|| seats.connection(block(7))).collect();
        assert_eq!(lobby.len(), LOBBY_OF_ADDRESS, "one address does not fill the lobby");
        assert!(lobby.iter().all(|seat| seat.turned_away() == Some(Full::House)));
        lobby.extend((100..=255).filter_map(|n| seats.connection(block(n))));
        assert_eq!((lobby.len(), seats.open()), (LOBBY, 2));
        drop(guests);
        assert_eq!(seats.connection(block(7)).unwrap().turned_away(), None);
    }

    #[test]
    fn a_proxy_itself_has_no_share_but_its_clients_have() {
        let seats = Seats::new(10, 2);
        let proxy: Vec<_> = (0..5).map(|_| seats.connection(None).unwrap()).collect();
        assert!(proxy.iter().all(|seat| seat.turned_away().is_none()));
        let client = Block::V4([198, 51, 100, 1].into());
        let requests: Vec<_> = std::iter::from_fn(|| seats.forwarded(client)).collect();
        assert_eq!((requests.len(), seats.open()), (2, 5));
        assert!(seats.forwarded(Block::V4([198, 51, 100, 2].into())).is_some());
        drop(requests);
        assert!(seats.forwarded(client).is_some());
    }
}
