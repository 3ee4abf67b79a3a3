//! Places that clients share by their addresses, where no token says who they are.

use std::{net::IpAddr, sync::Arc};

use saldo_gate::FairSemaphore;

/// So many places. One address alone gets half of them, two get a third each.
#[derive(Clone)]
pub struct Places(Arc<FairSemaphore>);

/// One of the places. It is given back when this is dropped.
pub struct Place {
    places: Places,
    address: Arc<str>,
}

impl Places {
    pub fn new(most: usize) -> Self {
        Self(Arc::new(FairSemaphore::new(most)))
    }

    /// A place for this address, if its share has one. Connections from within the process have no address.
    pub fn take(&self, address: Option<IpAddr>) -> Option<Place> {
        let address: Arc<str> = match address.map(|address| address.to_canonical()) {
            None => "".into(),
            Some(IpAddr::V4(address)) => address.to_string().into(),
            // A host has a whole network of 64 bits in IPv6.
            Some(IpAddr::V6(address)) => format!("{:x?}", address.segments().get(..4)).into(),
        };
        self.0.take(&address, 1).then(|| Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.give_back(&self.address, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_one_host_share_one_part() {
        let places = Places::new(4);
        let take = |address: &str| places.take(Some(address.parse().expect("an address")));
        let held = [take("2001:db8::1"), take("2001:db8::ffff")];
        assert!(held.iter().all(Option::is_some) && take("2001:db8::2").is_none());
        assert!(take("2001:db8:0:1::1").is_some(), "another network has its part");
        drop(held);
        let held = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && take("192.0.2.1").is_none(), "IPv4 within IPv6 is the same host");
    }
}
