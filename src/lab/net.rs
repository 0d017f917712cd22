//! Subnets, bridges and links.

use super::command::Cmd;
use super::{LabError, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

/// Subnets the lab picks from are `10.201.N.0/24`: a private range that few networks use.
const POOL: [u8; 2] = [10, 201];
/// The kernel's limit for the name of a link, without the final zero (`IFNAMSIZ` - 1).
const LINK_NAME_MAX: usize = 15;
/// The machine's own address in a lab's network.
const GATEWAY: u8 = 1;
/// The first number given to a host that asked for none.
const FIRST_HOST: u8 = 11;
/// The last number of a /24 that a host may have.
const LAST_HOST: u8 = 254;

/// A /24 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet([u8; 3]);

impl Subnet {
    /// The address with this last number.
    pub fn address(self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, number)
    }

    /// The machine's own address in it.
    pub fn gateway(self) -> Ipv4Addr {
        self.address(GATEWAY)
    }

    fn overlaps(self, network: Ipv4Addr, prefix: u32) -> bool {
        let bits = prefix.min(24);
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        u32::from(self.address(0)) & mask == u32::from(network) & mask
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/24", self.address(0))
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = LabError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Subnet {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || LabError::Spec(format!("{text} is no lab network; write one like 10.201.7.0/24"));
        let address: Ipv4Addr = text
            .strip_suffix("/24")
            .unwrap_or(text)
            .parse()
            .map_err(|_: std::net::AddrParseError| wrong())?;
        match address.octets() {
            [a, b, c, 0] if address.is_private() => Ok(Self([a, b, c])),
            _ => Err(wrong()),
        }
    }
}

/// The wanted subnet, or a free one: no link, route or other lab may overlap with it.
pub(super) fn choose(wanted: Option<Subnet>, labs: &[Subnet]) -> Result<Subnet> {
    let taken = used_networks()?;
    let free = |subnet: &Subnet| {
        !labs.contains(subnet) && !taken.iter().any(|(network, prefix)| subnet.overlaps(*network, *prefix))
    };
    match wanted {
        Some(subnet) if free(&subnet) => Ok(subnet),
        Some(subnet) => Err(LabError::Spec(format!(
            "the network {subnet} is in use on this machine; remove the lab that has it (`aesop lab list`) or choose another"
        ))),
        None => (0..=u8::MAX).map(|n| Subnet([POOL[0], POOL[1], n])).find(free).ok_or_else(|| {
            LabError::Spec(
                "every network 10.201.N.0/24 is in use on this machine; remove labs that are not needed (`aesop lab list`)"
                    .to_owned(),
            )
        }),
    }
}

fn used_networks() -> Result<Vec<(Ipv4Addr, u32)>> {
    let routes = Cmd::new("ip").args(["-4", "route", "show", "table", "all"]).run()?;
    Ok(routes.lines().filter_map(parse_route).collect())
}

/// The network a line of `ip route` leads to; not the default route, which leads everywhere.
fn parse_route(line: &str) -> Option<(Ipv4Addr, u32)> {
    let target = line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let (address, prefix) = target.split_once('/').unwrap_or((target, "32"));
    let via = line.starts_with("default");
    (!via).then_some((address.parse().ok()?, prefix.parse().ok()?))
}

/// The wanted number if it is free, or the lowest free one.
pub(super) fn choose_number(host: &str, wanted: Option<u8>, taken: &[u8]) -> Result<u8> {
    let legal = GATEWAY + 1..=LAST_HOST;
    match wanted {
        Some(number) if legal.contains(&number) && !taken.contains(&number) => Ok(number),
        Some(number) => Err(LabError::Spec(format!(
            "host {host} cannot have the number {number}: it is taken or not between 2 and 254"
        ))),
        None => (FIRST_HOST..=LAST_HOST).find(|number| !taken.contains(number)).ok_or_else(|| {
            LabError::Spec(format!("no address is left for host {host}; remove a host of this lab"))
        }),
    }
}

/// Four hexadecimal digits for a lab, to keep the names of its links short and its own.
pub(super) fn lab_id(lab: &str) -> String {
    hash(lab, 4)
}

/// The bridge of a lab.
pub(super) fn bridge_name(id: &str) -> String {
    format!("aesop-{id}")
}

/// A machine name whose link `vb-<machine>` fits the kernel's limit; a long host name becomes a hash.
pub(super) fn machine_name(id: &str, host: &str) -> String {
    let plain = format!("{id}-{host}");
    if link_name(&plain).len() <= LINK_NAME_MAX { plain } else { format!("{id}-{}", hash(host, 7)) }
}

/// The machine's end of a host's link, as systemd-nspawn names it.
pub(super) fn link_name(machine: &str) -> String {
    format!("vb-{machine}")
}

/// The first hexadecimal digits of a text's hash.
pub(super) fn hash(text: &str, digits: usize) -> String {
    Sha256::digest(text).iter().flat_map(|byte| [byte >> 4, byte & 15]).take(digits).fold(
        String::new(),
        |mut hex, nibble| {
            hex.extend(char::from_digit(nibble.into(), 16));
            hex
        },
    )
}

pub(super) fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

pub(super) fn make_bridge(name: &str, subnet: Subnet) -> Result<()> {
    let ip =
        |args: &[&str]| Cmd::new("ip").args(args).remedy("the lab needs root and the bridge module").run();
    ip(&["link", "add", name, "type", "bridge"])?;
    ip(&["address", "add", &format!("{}/24", subnet.gateway()), "dev", name])?;
    ip(&["link", "set", name, "up"])?;
    Ok(())
}

pub(super) fn remove_link(name: &str) -> Result<()> {
    if !link_exists(name) {
        return Ok(());
    }
    match Cmd::new("ip").args(["link", "delete", name]).run() {
        // The kernel removes a host's link with its last process, maybe just now.
        Err(_) if !link_exists(name) => Ok(()),
        other => other.map(drop),
    }
}

pub(super) fn set_link(name: &str, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    Cmd::new("ip").args(["link", "set", name, state]).remedy("is the host running?").run().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read_and_written() {
        let subnet: Subnet = "10.201.7.0/24".parse().unwrap();
        assert_eq!(subnet.to_string(), "10.201.7.0/24");
        assert_eq!(subnet.gateway().to_string(), "10.201.7.1");
        for text in ["10.201.7.1/24", "8.8.8.0/24", "10.201.7.0/16", "x"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_subnet_overlaps_with_wider_and_narrower_networks() {
        let subnet: Subnet = "10.201.7.0/24".parse().unwrap();
        for (network, prefix, overlaps) in [
            ("10.0.0.0", 8, true),
            ("10.201.7.128", 25, true),
            ("10.201.7.9", 32, true),
            ("10.201.6.0", 24, false),
            ("10.200.0.0", 16, false),
            ("0.0.0.0", 0, true),
        ] {
            assert_eq!(subnet.overlaps(network.parse().unwrap(), prefix), overlaps, "{network}/{prefix}");
        }
    }

    #[test]
    fn routes_are_read() {
        assert_eq!(parse_route("default via 10.0.0.1 dev eth0"), None);
        assert_eq!(
            parse_route("10.201.3.0/24 dev br proto kernel"),
            Some((Ipv4Addr::new(10, 201, 3, 0), 24))
        );
        assert_eq!(parse_route("broadcast 10.1.2.255 dev br"), Some((Ipv4Addr::new(10, 1, 2, 255), 32)));
    }

    #[test]
    fn link_names_fit_the_kernel() {
        for host in ["k1", "kafka-01", "a-host-with-a-very-long-name", "a-host-with-a-very-long-nome"] {
            assert!(link_name(&machine_name("ab12", host)).len() <= LINK_NAME_MAX, "{host}");
        }
        assert_eq!(machine_name("ab12", "k1"), "ab12-k1");
        assert_ne!(machine_name("ab12", "kafka-broker-1"), machine_name("ab12", "kafka-broker-2"));
    }

    #[test]
    fn numbers_are_given_once() {
        assert_eq!(choose_number("a", None, &[11, 12]).unwrap(), 13);
        assert_eq!(choose_number("a", Some(50), &[11]).unwrap(), 50);
        assert!(choose_number("a", Some(11), &[11]).is_err());
        assert!(choose_number("a", Some(1), &[]).is_err());
    }
}
