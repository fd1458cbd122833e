package Proxy;

# What a proxy says first (the PROXY protocol, both versions), and clients that come from an address
# of their own: all of 127.0.0.0/8 is this machine.

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use IO::Socket::IP;
use Socket qw(AF_INET AF_INET6 IPPROTO_TCP SOCK_STREAM TCP_NODELAY inet_pton);
use Tallyd qw(patience);

our @EXPORT_OK = qw(line binary binary_local tlv with_checksum from);

use constant {
	SIGNATURE => "\r\n\r\n\0\r\nQUIT\n",
	PORTS     => [56_324, 443],
};

sub _family { return $_[0] =~ /:/ ? AF_INET6 : AF_INET }

# A header of version 1 for a client with ADDRESS.
sub line {
	my ($address) = @_;
	my ($word, $to) = $address =~ /:/ ? ('TCP6', '2001:db8::2') : ('TCP4', '198.51.100.2');
	return "PROXY $word $address $to @{ +PORTS }\r\n";
}

sub _head { my ($command, $family, $body) = @_; return SIGNATURE . pack('CCn', $command, $family, length $body) . $body }

# One of version 2, with TLVS behind the addresses.
sub binary {
	my ($address, $tlvs) = @_;
	my $family = _family($address);
	my $body = inet_pton($family, $address) . inet_pton($family, $family == AF_INET ? '198.51.100.2' : '2001:db8::2')
		. pack('nn', @{ +PORTS });
	return _head(0x21, $family == AF_INET ? 0x11 : 0x21, $body . ($tlvs // ''));
}

# One of version 2 with COMMAND and FAMILY (of section 2.2) and BODY: LOCAL, if nothing else is said.
sub binary_local {
	my ($command, $family, $body) = @_;
	return _head($command // 0x20, $family // 0, $body // '');
}

sub tlv { my ($type, $value) = @_; return pack 'Cn/a', $type, $value }

# HEADER, of version 2, with a checksum behind it (PP2_TYPE_CRC32C).
sub with_checksum {
	my ($header) = @_;
	my $whole = _head(unpack('x12 CC', $header), substr($header, 16) . tlv(3, "\0\0\0\0"));
	my $crc = 0xffffffff;
	for my $byte (unpack 'C*', $whole) {
		$crc ^= $byte;
		$crc = $crc >> 1 ^ ($crc & 1 ? 0x82f63b78 : 0) for 1 .. 8;
	}
	return substr($whole, 0, -4) . pack 'N', $crc ^ 0xffffffff;
}

# A connected, non-blocking socket to ADDRESS, "127.0.0.1:7070" or "[::1]:7070", from CLIENT, an address
# of this machine; undef and $! if it is refused.
sub from {
	my ($client, $address) = @_;
	my ($host, $port) = $address =~ /^\[?(.*?)\]?:(\d+)$/ or croak "no address: $address";
	my $socket = IO::Socket::IP->new(LocalHost => $client, PeerHost => $host, PeerPort => $port,
		Type => SOCK_STREAM, Timeout => 10 * patience()) or return;
	setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
	$socket->blocking(0);
	return $socket;
}

1;
