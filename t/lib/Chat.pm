package Chat;

# A client of the chat, as a person with nc(1).
#
#     my $alice = Chat->new($tallyd, 1);       # listener 1
#     $alice->name('alice');
#     $alice->say('hello');
#     ok($bob->sees(qr/<alice> hello/));
#
# Every wait has a deadline; what was read stays in ->lines, and ->sees goes on behind what it found.

use strict;
use warnings;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Exporter qw(import);
use Scalar::Util qw(weaken);
use Tallyd qw(patience send_all);
use Time::HiRes qw(time);

our @EXPORT_OK = qw(read_all);

use constant DEADLINE => 15; # seconds

my @all; # weak

# Connects, and waits until it is in the room, unless WANT{door}.
sub new {
	my ($class, $tallyd, $listener, %want) = @_;
	my $self = bless { socket => $tallyd->raw_socket($listener), rest => '', lines => [], at => 0, ended => 0 }, $class;
	push @all, $self;
	weaken($all[-1]);
	return $self if $want{door};
	$self->sees(qr/^\*\*\* you are (\S+), one of \d+; \/help/) or die 'not let in: ' . join "\n", $self->lines;
	$self->{name} = $1 if $self->found =~ /you are (\S+),/;
	return $self;
}

sub socket { return $_[0]{socket} }
sub ended  { return $_[0]{ended} }
sub lines  { return @{ $_[0]{lines} } }
sub called { return $_[0]{name} }

# The line that ->sees found.
sub found { return $_[0]{lines}[$_[0]{at} - 1] }

# Takes what has come; true unless nothing had.
sub take {
	my ($self) = @_;
	return 0 if $self->{ended};
	my $got = sysread $self->{socket}, $self->{rest}, 65_536, length $self->{rest};
	if (!defined $got) {
		return 0 if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
		$got = 0;
	}
	$self->{ended} = 1 unless $got;
	my @lines = split /\n/, $self->{rest}, -1;
	$self->{rest} = pop @lines // '';
	push @{ $self->{lines} }, @lines;
	return 1;
}

# Takes what comes to any of CLIENTS until CONDITION holds; its last value.
sub read_all {
	my ($condition, $deadline, @clients) = @_;
	my $end = time + ($deadline || DEADLINE) * patience();
	while (1) {
		1 while grep { $_->take } @clients;
		my $value = $condition->();
		return $value if $value || time > $end;
		my $bits = '';
		vec($bits, fileno $_->{socket}, 1) = 1 for grep { !$_->{ended} } @clients;
		select $bits, undef, undef, 0.05;
	}
}

# Is there a line that matches, behind the last that was found?
sub sees {
	my ($self, $pattern, $deadline) = @_;
	return read_all(sub { $self->find($pattern) }, $deadline, $self);
}

sub find {
	my ($self, $pattern) = @_;
	for my $at ($self->{at} .. $#{ $self->{lines} }) {
		next unless $self->{lines}[$at] =~ $pattern;
		$self->{at} = $at + 1;
		return 1;
	}
	return 0;
}

# Does its stream end?
sub ends { my ($self, $deadline) = @_; return read_all(sub { $self->{ended} }, $deadline, $self) }

sub send { my ($self, $bytes) = @_; send_all($self->{socket}, $bytes); return $self }

sub say { my ($self, $line) = @_; return $self->send("$line\n") }

# Is called NAME from now on.  Whoever had it before, and is gone, may be there for a moment longer.
sub name {
	my ($self, $name) = @_;
	my $end = time + DEADLINE * patience();
	do {
		$self->say("/nick $name");
		$self->sees(qr/^\*\*\* (?:you are now|somebody else is) \Q$name\E$/) && time < $end or die "cannot be called $name: " . join "\n", $self->lines;
	} until $self->found =~ /you are now/;
	$self->{name} = $name;
	return $self;
}

# All that was said by anybody, in order: "<name> text".
sub heard { return map { /^\[[\d: -]+\] (<\S+> .*)/ ? $1 : () } @{ $_[0]{lines} } }

sub close_all { $_->close for grep { defined } @all; @all = (); return }

sub close { my ($self) = @_; close $self->{socket}; $self->{ended} = 1; return }

1;
