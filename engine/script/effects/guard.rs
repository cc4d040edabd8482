//! The address guard: which addresses a handler's HTTP requests may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::script) enum Reach {
    /// The open internet.
    Public,
    /// A private network or this machine: refused in `run` unless listed.
    Private,
    /// Never to be reached: link-local (cloud metadata), multicast, broadcast, reserved.
    Never,
}

/// The IPv4 address in an IPv6 one that only wraps it: mapped, compatible, 6to4, NAT64.
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let s = six.segments();
    let four = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => four(high, low),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => four(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x64, 0xff9b, 1, .., high, low] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        // Teredo keeps the client's address with its bits turned over.
        [0x2001, 0, _, _, _, _, high, low] => four(!high, !low),
        _ => address,
    }
}

/// What kind of place an address is, whatever form it is written in.
pub(in crate::script) fn reach(address: IpAddr) -> Reach {
    match unwrapped(address) {
        IpAddr::V4(four) => reach4(four),
        IpAddr::V6(six) => reach6(six),
    }
}

fn reach4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [0, ..] | [169, 254, ..] | [224..=255, ..] => Reach::Never,
        [192, 0, 0, _] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => Reach::Never,
        // Alibaba's metadata service stands in the shared range.
        [100, 100, 100, 200] => Reach::Never,
        [10, ..] | [127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach6(address: Ipv6Addr) -> Reach {
    let s = address.segments();
    match s {
        // AWS's metadata service stands in the unique local range.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] => Reach::Never,
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        [0, 0, 0, 0, ..] => Reach::Never,
        [0xfe80..=0xfebf, ..] | [0xff00..=0xffff, ..] | [0x100, 0, 0, 0, ..] | [0x2001, 0xdb8, ..] => Reach::Never,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach_of(text: &str) -> Reach {
        reach(text.parse().expect(text))
    }

    #[test]
    fn addresses_that_must_never_be_reached() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "192.88.99.1",
            "100.100.100.200",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "ff0e::1",
            "2001:db8::1",
            "100::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:1:2:3:4:5601:5601",
            "::ffff:0.0.0.0",
            "64:ff9b::0.0.0.1",
            "2002:e000:1::",
            "4000::1",
            "::1:0:0:1",
        ] {
            assert_eq!(reach_of(text), Reach::Never, "{text}");
        }
    }

    #[test]
    fn addresses_that_are_private_in_every_form() {
        for text in [
            "10.0.0.1",
            "10.255.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.18.0.1",
            "198.19.9.9",
            "::1",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "::ffff:7f00:1",
            "::127.0.0.1",
            "64:ff9b::10.1.2.3",
            "2002:7f00:1::1",
            "2002:c0a8:101::",
            "2001:0:1:2:3:4:f5ff:fffe",
        ] {
            assert_eq!(reach_of(text), Reach::Private, "{text}");
        }
    }

    #[test]
    fn addresses_of_the_open_internet() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(reach_of(text), Reach::Public, "{text}");
        }
    }
}
