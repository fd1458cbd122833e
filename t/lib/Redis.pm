package Redis;

# A client of Redis' protocol (RESP2 and RESP3), and a real redis-server of a test's own to compare with.
# Core modules only.
#
#     my $redis = Redis->new('127.0.0.1:6379');
#     $redis->ask('INCRBY', 'alice', 5);     # 5
#     $redis->send_commands(['GET', 'a'], ['GET', 'b']); my @both = map { $redis->reply } 1 .. 2;
#
# A reply is: an integer as { int => N }, a bulk string as a plain string, undef for null, { simple => S },
# { error => S }, [ ... ] for an array and a set, { map => [KEY, VALUE, ...] }.  `show` writes one as text.

use strict;
use warnings;

use Carp qw(croak);
use File::Path qw(remove_tree);
use File::Temp ();
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX qw(WNOHANG);
use Tallyd qw(free_port patience wait_until);
use Time::HiRes qw(time);

use constant { DEADLINE => 10, READ => 65_536 };

sub new {
	my ($class, $address) = @_;
	my $socket = $address =~ m{^unix:(.*)} ? IO::Socket::UNIX->new(Peer => $1)
		: IO::Socket::IP->new(PeerAddr => $address, Blocking => 1);
	croak "cannot connect to $address: $!" unless $socket;
	$socket->blocking(0);
	return bless { socket => $socket, buffer => '' }, $class;
}

sub socket { return $_[0]{socket} }

# A command as an array of bulk strings.
sub command { return join '', '*' . @_ . "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @_ }

sub send_raw { my ($self, $bytes) = @_; Tallyd::send_all($self->{socket}, $bytes, DEADLINE); return $self }

sub send_commands { my ($self, @commands) = @_; return $self->send_raw(join '', map { command(@$_) } @commands) }

sub ask { my ($self, @command) = @_; $self->send_commands(\@command); return $self->reply }

# Reads more.  False: the other side has closed.
sub _fill {
	my ($self) = @_;
	my $end = time + DEADLINE * patience();
	while (1) {
		my $got = sysread $self->{socket}, $self->{buffer}, READ, length $self->{buffer};
		return $got > 0 if defined $got;
		return 0 if $!{ECONNRESET} || $!{EPIPE};
		croak "cannot read: $!" unless $!{EAGAIN} || $!{EINTR};
		my $bits = '';
		vec($bits, fileno $self->{socket}, 1) = 1;
		croak 'timeout: no reply' if time > $end;
		select $bits, undef, undef, 0.5;
	}
}

sub _line {
	my ($self) = @_;
	my $at;
	while (($at = index $self->{buffer}, "\r\n") < 0) {
		$self->_fill or die "closed\n";
	}
	my $line = substr $self->{buffer}, 0, $at;
	substr $self->{buffer}, 0, $at + 2, '';
	return $line;
}

sub _bytes {
	my ($self, $length) = @_;
	while (length $self->{buffer} < $length + 2) {
		$self->_fill or die "closed\n";
	}
	my $bytes = substr $self->{buffer}, 0, $length + 2, '';
	die "a bulk string does not end with CRLF\n" unless $bytes =~ s/\r\n\z//;
	return $bytes;
}

# The next reply; dies with "closed" where there is none.
sub reply {
	my ($self) = @_;
	my $line = $self->_line;
	my ($type, $rest) = $line =~ /^(.)(.*)\z/s or die "no reply: '$line'\n";
	return { int => $rest } if $type eq ':';
	return { simple => $rest } if $type eq '+';
	return { error => $rest } if $type eq '-';
	return undef if $type eq '_' || $rest eq '-1'; ## no critic
	return $self->_bytes($rest) if $type eq '$' || $type eq '=';
	return [map { $self->reply } 1 .. $rest] if $type eq '*' || $type eq '~';
	return { map => [map { $self->reply } 1 .. 2 * $rest] } if $type eq '%';
	die "an unknown kind of reply: '$line'\n";
}

# Has the other side closed, with nothing left to read?
sub closed { my ($self) = @_; return $self->{buffer} eq '' && !eval { $self->_fill } }

sub show {
	my ($reply) = @_;
	return 'nil' unless defined $reply;
	return '"' . $reply =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger . '"' unless ref $reply;
	return '[' . join(' ', map { show($_) } @$reply) . ']' if ref $reply eq 'ARRAY';
	return '{' . join(' ', map { show($_) } @{ $reply->{map} }) . '}' if $reply->{map};
	my ($kind) = keys %$reply;
	return "$kind($reply->{$kind})";
}

# ---- a redis-server

# Of a test's own, or undef: there is none on this machine.
sub server {
	my ($class) = @_;
	my ($binary) = grep { -x } map { "$_/redis-server" } split(/:/, $ENV{PATH}), '/usr/bin', '/usr/sbin';
	return unless $binary;
	my $self = bless { creator => $$, port => free_port(), dir => File::Temp::tempdir('tallyd-redis-XXXXXXXX', TMPDIR => 1) }, 'Redis::Server';
	$self->{pid} = fork;
	croak "cannot fork: $!" unless defined $self->{pid};
	if ($self->{pid} == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$self->{dir}/log";
		exec { $binary } $binary, '--port', $self->{port}, '--bind', '127.0.0.1', '--dir', $self->{dir}, '--save', '',
			'--appendonly', 'yes', '--databases', '1' or POSIX::_exit(127);
	}
	wait_until { eval { Redis->new($self->address)->ask('PING') } } 10 or croak 'redis-server does not get ready';
	return $self;
}

package Redis::Server;

sub address { return "127.0.0.1:$_[0]{port}" }

sub DESTROY {
	my ($self) = @_;
	return if $self->{creator} != $$;
	local ($@, $?, $!);
	kill KILL => $self->{pid};
	waitpid $self->{pid}, 0;
	File::Path::remove_tree($self->{dir}, { safe => 1 });
	return;
}

1;
