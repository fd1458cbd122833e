package Feed;

# A reader of GET /feed.
#
#     my $feed = Feed->open($tallyd, '?after=0', { 'Last-Event-ID' => 17 });
#     my @events = $feed->take(3);          # waits for them: the decoded objects
#     $feed->ended                          # waits for the end; true if it was a clean one
#
# $feed->{head} is the answer's head ({ status, headers }), {body} its body if it is no feed, {id}
# the last id that was told, {comments} how many comments came, {named} the events that had a name:
# [name, object].

use strict;
use warnings;

use JSON::PP ();
use Time::HiRes qw(time);
use Tallyd qw(patience send_all);

my $json = JSON::PP->new->utf8;

sub open {
	my ($class, $tallyd, $query, $headers, %option) = @_;
	my $self = bless { socket => $tallyd->raw_socket, raw => '', text => '', events => [],
		comments => 0, named => [], lines => 0 }, $class;
	my $version = $option{version} || '1.1';
	my $request = "GET /feed$query HTTP/$version\r\nHost: localhost\r\n";
	$request .= "$_: $headers->{$_}\r\n" for sort keys %{ $headers || {} };
	send_all($self->{socket}, "$request\r\n");
	$self->_head($option{deadline}) unless $option{no_wait};
	return $self;
}

sub _fill {
	my ($self, $end) = @_;
	return 0 if $self->{closed};
	my $bits = '';
	vec($bits, fileno $self->{socket}, 1) = 1;
	my $left = $end - time;
	return 0 if $left <= 0 || select($bits, undef, undef, $left) <= 0;
	my $got = sysread $self->{socket}, $self->{raw}, 65_536, length $self->{raw};
	$self->{closed} = 1 if !$got && !$!{EAGAIN} && !$!{EINTR};
	return 1;
}

sub _head {
	my ($self, $deadline) = @_;
	my $end = time + ($deadline || 10) * patience();
	1 while $self->{raw} !~ /\r\n\r\n/ && $self->_fill($end);
	my ($head) = $self->{raw} =~ /\A(.*?)\r\n\r\n/s or die "no head: \"$self->{raw}\"";
	substr $self->{raw}, 0, 4 + length $head, '';
	my ($first, @lines) = split /\r\n/, $head;
	my ($status) = $first =~ m{^HTTP/1\.1 (\d+) } or die "no status: $first";
	$self->{head} = { status => $status, headers => { map { /^(.*?): (.*)/; lc $1 => $2 } @lines } };
	$self->{chunked} = ($self->{head}{headers}{'transfer-encoding'} || '') eq 'chunked';
	$self->{sse} = ($self->{head}{headers}{'content-type'} || '') eq 'text/event-stream';
	return;
}

# Takes what has arrived apart.
sub _parse {
	my ($self) = @_;
	if ($self->{chunked}) {
		while (!$self->{clean} && $self->{raw} =~ /\A([0-9a-f]+)\r\n/) {
			my ($size, $begin) = (hex $1, length($1) + 2);
			last if length $self->{raw} < $begin + $size + 2;
			$self->{text} .= substr $self->{raw}, $begin, $size;
			substr($self->{raw}, $begin + $size, 2) eq "\r\n" or die 'a chunk is longer than it says';
			substr $self->{raw}, 0, $begin + $size + 2, '';
			$self->{clean} = 1 if $size == 0;
		}
	} else {
		$self->{text} .= $self->{raw};
		$self->{raw} = '';
		$self->{clean} = $self->{closed};
	}
	$self->{sse} ? $self->_parse_events : $self->_parse_lines;
	return;
}

sub _parse_lines {
	my ($self) = @_;
	while ($self->{text} =~ s/\A(.*)\n//) {
		my $object = $json->decode($1);
		push @{ $self->{ $object->{status} ? 'named' : 'events' } },
			$object->{status} ? [$object->{reason}, $object] : $object;
	}
	return;
}

# HTML 9.2.6
sub _parse_events {
	my ($self) = @_;
	while ($self->{text} =~ s/\A(.*?)\n\n//s) {
		my (%field, @data);
		for (split /\n/, $1) {
			if (/^:/) { $self->{comments}++; next }
			my ($name, $value) = /^(id|data|event|retry): (.*)$/ or die "no field: $_";
			$name eq 'data' ? push @data, $value : ($field{$name} = $value);
		}
		$self->{retry} = $field{retry} if defined $field{retry};
		$self->{id} = $field{id} if defined $field{id};
		next unless @data;
		my $object = $json->decode(join "\n", @data);
		if ($field{event}) {
			push @{ $self->{named} }, [$field{event}, $object];
		} else {
			die "id $self->{id}, lsn $object->{lsn}" if $self->{id} ne $object->{lsn};
			push @{ $self->{events} }, $object;
		}
	}
	return;
}

# Reads until CONDITION holds, for up to SECONDS.
sub until_true {
	my ($self, $seconds, $condition) = @_;
	my $end = time + $seconds * patience();
	while (1) {
		$self->_parse;
		return 1 if $condition->();
		next if $self->_fill($end);
		$self->_parse;
		return $condition->() ? 1 : 0;
	}
}

# The next COUNT events, as many of them as come within SECONDS.
sub take {
	my ($self, $count, $seconds) = @_;
	$self->until_true($seconds || 10, sub { @{ $self->{events} } >= $count || $self->{clean} });
	return splice @{ $self->{events} }, 0, $count;
}

# What comes within SECONDS, which are not stretched: to see that nothing does.
sub take_for {
	my ($self, $seconds) = @_;
	$self->until_true($seconds / patience(), sub { $self->{clean} });
	return splice @{ $self->{events} };
}

# Reads all there is to the end.  Is that a clean one?
sub ended {
	my ($self, $seconds) = @_;
	return $self->until_true($seconds || 10, sub { $self->{clean} || $self->{closed} }) && $self->{clean};
}

sub rest { my ($self, $seconds) = @_; $self->ended($seconds); return splice @{ $self->{events} } }

sub socket { return $_[0]{socket} }

sub close { my ($self) = @_; CORE::close($self->{socket}); return }

1;
