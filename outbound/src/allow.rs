//! Which addresses may be called.
//!
//! An address of the public internet may. Everything else is refused unless it is named: what stands behind it was built
//! for those who are inside, and a DAG file, a parameter or a redirect must not become a way in.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;

use crate::error::CallError;

/// What may be called although it is not public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Net(IpNet),
    Host(String),
    /// Every name below this one; it begins with a dot.
    Below(String),
}

/// Why an entry of the list cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} is neither an address, nor a network such as 10.0.0.0/8, nor a host name")]
pub struct AllowError {
    entry: String,
}

impl FromStr for Entry {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let wrong = || AllowError { entry: text.to_owned() };
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Net(IpNet::from(address.to_canonical())));
        }
        if text.contains('/') {
            return text.parse::<IpNet>().map(|net| Self::Net(net.trunc())).map_err(|_| wrong());
        }
        let (name, is_below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let is_label = |label: &str| {
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        if name.is_empty() || name.len() > 253 || !name.split('.').all(is_label) {
            return Err(wrong());
        }
        let name = name.to_ascii_lowercase();
        Ok(if is_below { Self::Below(format!(".{name}")) } else { Self::Host(name) })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => write!(f, "{net}"),
            Self::Host(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*{name}"),
        }
    }
}

impl Allow {
    /// Reads a list of addresses, networks, host names and `*.` with a host name.
    ///
    /// # Errors
    /// [`AllowError`] names the first entry that is none of these.
    pub fn read<T: AsRef<str>>(entries: &[T]) -> Result<Self, AllowError> {
        entries.iter().map(|entry| entry.as_ref().trim().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the entries as [`Allow::read`] takes them.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Returns the same list with one more host, which may be an address. One that cannot be named adds nothing.
    #[must_use]
    pub fn and_host(mut self, host: &str) -> Self {
        self.0.extend(host.trim_end_matches('.').parse::<Entry>());
        self
    }

    /// Returns those of the addresses of a host that may be called.
    ///
    /// # Errors
    /// [`CallError::Refused`] with the first address, when none of them may.
    pub(crate) fn judge(&self, host: &str, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, CallError> {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let is_named = self.0.iter().any(|entry| match entry {
            Entry::Host(own) => *own == name,
            Entry::Below(end) => name.ends_with(end) && name.len() > end.len(),
            Entry::Net(_) => false,
        });
        let may = |address: IpAddr| {
            let canonical = address.to_canonical();
            let nets = self.0.iter().filter_map(|entry| match entry {
                Entry::Net(net) => Some(net),
                _ => None,
            });
            is_named || kind(canonical).is_none() || nets.into_iter().any(|net| net.contains(&canonical))
        };
        let good: Vec<IpAddr> = addresses.iter().copied().filter(|address| may(*address)).collect();
        match (good.is_empty(), addresses.first()) {
            (true, Some(address)) => Err(CallError::Refused {
                host: host.to_owned(),
                address: *address,
                what: kind(address.to_canonical()).unwrap_or("not public"),
            }),
            _ => Ok(good),
        }
    }
}

/// Says what an address is when it is not public.
fn kind(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

const fn kind_v4(address: Ipv4Addr) -> Option<&'static str> {
    Some(match address.octets() {
        [0, ..] => "unspecified",
        [127, ..] => "loopback",
        [10, ..] | [192, 168, ..] => "private",
        [172, second, ..] if second & 0xf0 == 16 => "private",
        [169, 254, ..] => "link-local",
        [100, second, ..] if second & 0xc0 == 64 => "shared by a carrier",
        [192, 0, 0, _] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18 | 19, ..] => {
            "reserved"
        }
        [224..=239, ..] => "multicast",
        [240..=255, ..] => "reserved",
        _ => return None,
    })
}

fn kind_v6(address: Ipv6Addr) -> Option<&'static str> {
    let parts = address.segments();
    let inner = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        kind_v4(Ipv4Addr::new(a, b, c, d))
    };
    Some(match parts {
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        // Mapped, compatible: another way to write what is above.
        [0, 0, 0, 0, 0, 0xffff, high, low] => return inner(high, low),
        [0, 0, 0, 0, 0, 0, ..] => "reserved",
        // Through a translator and through a tunnel, into the same networks.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => return inner(high, low),
        [0x64, 0xff9b, 1, ..] => "private",
        [0x2001, 0, ..] | [0x2001, 0xdb8, ..] | [0x100, 0, 0, 0, ..] => "reserved",
        [first, ..] if first & 0xfe00 == 0xfc00 => "unique local",
        [first, ..] if first & 0xffc0 == 0xfe80 => "link-local",
        [first, ..] if first & 0xffc0 == 0xfec0 => "site-local",
        [first, ..] if first & 0xff00 == 0xff00 => "multicast",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_public_is_refused_and_named() {
        for (text, what) in [
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("10.1.2.3", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("169.254.169.254", "link-local"),
            ("100.64.0.1", "shared by a carrier"),
            ("100.127.255.255", "shared by a carrier"),
            ("192.0.2.1", "reserved"),
            ("198.19.0.1", "reserved"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("::127.0.0.1", "reserved"),
            ("64:ff9b::7f00:1", "loopback"),
            ("64:ff9b:1::1", "private"),
            ("2002:a00:1::", "private"),
            ("2001::1", "reserved"),
            ("fd00::1", "unique local"),
            ("fc00::1", "unique local"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ] {
            let error = Allow::default().judge("host.example", &[address(text)]).unwrap_err();
            assert!(error.is_final());
            assert!(
                matches!(error, CallError::Refused { what: found, .. } if found == what),
                "{text}: {error}"
            );
            assert!(error.to_string().starts_with("NET0001: host.example leads to "), "{error}");
        }
    }

    #[test]
    fn what_is_public_is_called() {
        for text in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "169.253.0.1",
            "192.167.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::",
        ] {
            assert_eq!(Allow::default().judge("h", &[address(text)]), Ok(vec![address(text)]), "{text}");
        }
    }

    #[test]
    fn an_entry_opens_what_it_names_and_nothing_else() {
        let allow = Allow::read(&["127.0.0.1", "10.0.0.0/8", "hooks.internal", "*.lab", "[::1]"]).unwrap();
        let may = |host: &str, ip: &str| allow.judge(host, &[address(ip)]).is_ok();
        assert!(may("x", "127.0.0.1") && may("x", "::ffff:127.0.0.1") && may("x", "::1"));
        assert!(!may("x", "127.0.0.2"));
        assert!(may("x", "10.200.0.1") && !may("x", "172.16.0.1"));
        assert!(may("Hooks.Internal.", "192.168.0.1") && !may("my.hooks.internal", "192.168.0.1"));
        assert!(may("a.lab", "192.168.0.1") && may("a.b.lab", "192.168.0.1"));
        assert!(!may("lab", "192.168.0.1") && !may("evil-lab", "192.168.0.1"));
        let again = Allow::read(&allow.entries()).unwrap();
        assert_eq!(again, allow);
        assert!(!may("h", "192.168.7.7"));
        assert!(allow.clone().and_host("192.168.7.7").judge("h", &[address("192.168.7.7")]).is_ok());
        for wrong in ["", "http://x", "10.0.0.0/33", "a b", "x..y", "*", "*.*.x", "x:80"] {
            let error = Allow::read(&[wrong]).unwrap_err().to_string();
            assert!(error.contains("is neither an address"), "{error}");
        }
    }

    #[test]
    fn of_many_addresses_only_those_that_may_be_called_are_left() {
        let both = [address("127.0.0.1"), address("1.1.1.1")];
        assert_eq!(Allow::default().judge("h", &both), Ok(vec![address("1.1.1.1")]));
    }
}
