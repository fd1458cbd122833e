package Hammer;

# t/hammer run in the background against a Tallyd, and the judgement on what it was told:
# acknowledged <= balance <= acknowledged + unknown, for every account.
#
#     my $hammer = Hammer->start($tallyd, connections => 8, depth => 4, accounts => 100);
#     ... kill something ...
#     my $told = $hammer->finish;
#     is_deeply([Hammer::lost($tallyd, $told)], [], 'everything acknowledged is there');

use strict;
use warnings;

use Carp qw(croak);
use JSON::PP ();
use POSIX qw(WNOHANG);
use Tallyd qw(build_dir slurp wait_until);

use constant FINISH_DEADLINE => 30;

my $number = 0;

sub program {
	my $program = build_dir() . '/t/hammer';
	croak "$program is not there: build it first (make check)" unless -x $program;
	return $program;
}

# Options: connections, depth, accounts, prefix, seconds, requests, grace; see t/hammer.c.  The
# report lies in the test's own directory, DIR (default: the daemon's).
sub start {
	my ($class, $tallyd, %option) = @_;
	my %flag = (connections => '-c', depth => '-d', accounts => '-n', prefix => '-x',
		seconds => '-s', requests => '-r', grace => '-g');
	my $file = (delete $option{dir} || $tallyd->dir) . '/hammer-' . ++$number . '.json';
	my @command = (program(), '-p', $tallyd->port, '-o', $file);
	push @command, $flag{$_} || croak("no option $_"), $option{$_} for sort keys %option;
	my $pid = fork;
	croak "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		{ no warnings 'exec'; exec { $command[0] } @command; }
		POSIX::_exit(127);
	}
	return bless { pid => $pid, file => $file, creator => $$ }, $class;
}

# What it has been told so far; undef before the first report.
sub told {
	my ($self) = @_;
	return unless -e $self->{file};
	return JSON::PP->new->decode(slurp($self->{file}));
}

# Waits until it has been acknowledged COUNT events more than now; false after the deadline.
sub wait_more {
	my ($self, $count, $deadline) = @_;
	my $from = ($self->told || {})->{acknowledged} || 0;
	return wait_until {
		((($self->told || {})->{acknowledged}) || 0) >= $from + $count;
	} $deadline || 10;
}

# Waits until it has ended by itself (seconds, requests), and returns what it was told.
sub wait_end {
	my ($self, $deadline) = @_;
	my $ended = wait_until { waitpid($self->{pid}, WNOHANG) != 0 } $deadline || FINISH_DEADLINE;
	croak "hammer (pid $self->{pid}) does not end" unless $ended;
	delete $self->{pid};
	croak "hammer failed with status $?" if $?;
	my $told = $self->told;
	croak 'hammer left no report' unless $told && $told->{finished};
	return $told;
}

# SIGTERM, then as wait_end.
sub finish {
	my ($self, $deadline) = @_;
	kill 'TERM', $self->{pid} if $self->{pid};
	return $self->wait_end($deadline);
}

sub DESTROY {
	my ($self) = @_;
	return if !$self->{pid} || $self->{creator} != $$;
	local ($?, $!);
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
}

# Adds up what several hammers were told, one after the other, of the same accounts.
sub add_up {
	my %accounts;
	for my $told (@_) {
		while (my ($name, $facts) = each %{ $told->{accounts} }) {
			my $sum = $accounts{$name} ||= [0, 0, 0];
			$sum->[$_] += $facts->[$_] for 0, 1;
			$sum->[2] = $facts->[2] if $facts->[2] > $sum->[2];
		}
	}
	return { accounts => \%accounts };
}

# One line for every account whose balance cannot be what the hammers were told; at most a few.
sub lost {
	my ($tallyd, @told) = @_;
	my $accounts = add_up(@told)->{accounts};
	my $connection = $tallyd->connection;
	my @wrong;
	for my $name (sort keys %$accounts) {
		my ($acknowledged, $unknown, $highest) = @{ $accounts->{$name} };
		my $answer = $tallyd->request('GET', "/accounts/$name", undef, undef,
			connection => $connection);
		my $balance = $answer->{status} == 404 ? 0 : $answer->{json}{balance};
		my $version = $answer->{status} == 404 ? 0 : $answer->{json}{version};
		next if $answer->{status} =~ /^(?:200|404)$/ && $balance >= $acknowledged
			&& $balance <= $acknowledged + $unknown && $version == $balance
			&& $version >= $highest;
		push @wrong, "$name: $acknowledged acknowledged (up to version $highest), $unknown unknown, "
			. "but balance $balance in version $version (status $answer->{status})";
		last if @wrong >= 5;
	}
	return @wrong;
}

# What no run may show, as a list of words; empty is good.
sub oddities {
	my ($told) = @_;
	my @odd = map { "$told->{$_} $_" } grep { $told->{$_} } qw(duplicates mismatches malformed);
	push @odd, map { "$told->{other}{$_} answers $_" } sort keys %{ $told->{other} };
	return @odd;
}

1;
