#!/usr/bin/perl
# slowhttptest in its three modes: slow headers, slow bodies, slow reading.  Each attacker is ended by its
# deadline, and what another client is answered meanwhile comes as soon as ever: all of it, and 99 of 100
# within 100 ms.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Bench;
use POSIX qw(WNOHANG);
use Tallyd qw(patience slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	ATTACKERS => 1000,
	P99       => 100_000,  # microseconds, of the other client
	RATE      => 500,      # operations per second, of the other client
	SECONDS   => 6,
	LENGTH    => 25,       # seconds that an attack would last
	TIME_OUT  => 2,        # seconds, of headers, bodies and writing
	IDLE      => 5,        # seconds, of those whose answers the kernel has taken
	TRIES     => 3,        # since others use this machine, too
	BUSY      => 25_000,   # microseconds; if it takes so long without an attack, it is they
};

# As many open files as the limit lets one have, for the daemon as well.
unless ($ENV{TALLYD_TEST_FILES}) {
	$ENV{TALLYD_TEST_FILES} = 1;
	exec 'sh', '-c', 'ulimit -n "$(ulimit -Hn)"; exec "$@"', 'sh', $^X, (map { "-I$_" } "$FindBin::RealBin/lib"), $0, @ARGV;
}

plan(skip_all => 'slowhttptest is not installed') unless grep { -x "$_/slowhttptest" } split /:/, $ENV{PATH};

# The disk, which no attacker has to do with and others may keep busy, is left out of it.
my $tallyd = Tallyd->start(config => { workers => 2, sync => 'interval', max_connections => 2000, header_timeout => TIME_OUT, body_timeout => TIME_OUT,
	write_timeout => TIME_OUT, idle_timeout => IDLE });

sub metric {
	my ($name) = @_;
	my $page = $tallyd->request('GET', '/metrics')->{body};
	my $sum = 0;
	$sum += $1 while $page =~ /^\Q$name\E(?:\{.*\})? (\S+)$/mg;
	return $sum;
}

my $attack; # the process

# Begins an attack; its output in a file.
sub begin_attack {
	my ($path, @options) = @_;
	my $file = $tallyd->dir . '/attack';
	my $parent = $$;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		open STDIN, '<', '/dev/null' or POSIX::_exit(126);
		open STDOUT, '>', $file or POSIX::_exit(126);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
		POSIX::_exit(126) if getppid != $parent;
		exec 'timeout', LENGTH + 20, 'slowhttptest', '-c', ATTACKERS, '-l', LENGTH, '-p', 3, '-v', 1, '-u', $tallyd->url . $path, @options;
	}
	$attack = $pid;
	return $file;
}

sub attack_runs { return defined $attack && waitpid($attack, WNOHANG) == 0 }

sub end_attack {
	return unless defined $attack;
	kill 'TERM', $attack;
	waitpid $attack, 0;
	undef $attack;
	return;
}

END { local $?; end_attack() }

# The other client; how soon 99 of 100 of its operations were answered, microseconds.  Dies if any failed.
sub serve_another {
	my $run = bench('-q', '-j', '-c', 8, '-r', RATE, '-d', SECONDS, '-t', 30, $tallyd->url);
	my $json = $run->{json} or die "tallybench: $run->{err}";
	die "not all was accepted: $run->{out}" unless $json->{accepted} == $json->{requests} && $json->{requests} >= RATE * SECONDS * 0.9;
	return $json->{latency_us}{p99};
}

sub shown { return sprintf '%.1f ms', $_[0] / 1000 }

# What becomes of the attack of KIND whose output is in FILE, which began when BEFORE were too slow.
sub check_end {
	my ($kind, $counted, $file, $before) = @_;
	ok((wait_until { metric('tallyd_connections') < 50 } LENGTH - SECONDS), "$kind: every attacker is ended by its deadline");
	if ($counted) {
		cmp_ok(metric('tallyd_connections_timed_out_total') - $before, '>', ATTACKERS * 0.8, "$kind: ... and counted as too slow");
		ok((wait_until { !attack_runs() } LENGTH), "$kind: the attack ends");
		undef $attack;
	}
	(my $said = slurp($file)) =~ tr/\0//d;
	like($said, qr/No open connections left/, "$kind: ... because nobody is left") if $counted;
	unlike($said, qr/service available:\s+NO/, "$kind: the attacker, too, finds the service there");
	return;
}

# Begins an attack and measures another client; p99, or undef if that was not served.
sub measure {
	my ($kind, $counted, $check, $path, @options) = @_;
	my ($before, $highest) = (metric('tallyd_connections_timed_out_total'), 0);
	my $file = begin_attack($path, @options);
	wait_until { my $now = metric('tallyd_connections'); $highest = $now if $now > $highest; $highest > ATTACKERS / 10 };
	my $p99 = eval { serve_another() };
	diag("$kind: p99 of another client is " . (defined $p99 ? shown($p99) : $@));
	if ($check) {
		cmp_ok($highest, '>', ATTACKERS / 10, "$kind: there are many attackers");
		ok(defined $p99, "$kind: another client is served, whatever it asks") or diag($@);
		check_end($kind, $counted, $file, $before);
	}
	end_attack();
	wait_until { metric('tallyd_connections') < 50 } LENGTH;
	return $p99;
}

# One attack of KIND on PATH; COUNTED: those that it ends are counted as too slow, each by itself.  Who else
# is busy on this machine can be seen when nobody attacks: then it is tried again, and if that never
# ends, nothing has been measured.
sub withstand {
	my ($kind, $counted, @attack) = @_;
	my ($p99, $calm);
	for my $try (1 .. TRIES) {
		$p99 = measure($kind, $counted, $try == 1, @attack);
		return unless defined $p99;
		last if $p99 < P99 * patience();
		$calm = serve_another();
		diag("$kind: without attackers it is " . shown($calm));
	}
	SKIP: {
		skip "this machine is too busy to tell: p99 is " . shown($calm) . ' without an attack', 1
			if $p99 >= P99 * patience() && $calm > BUSY;
		cmp_ok($p99, '<', P99 * patience(), "$kind: another client is answered as soon as ever");
	}
	return;
}

diag('without an attack p99 is ' . shown(serve_another()));
withstand('slow headers', 1, '/', '-H', '-r', 500, '-i', 1, '-x', 10);
withstand('slow bodies', 1, '/events', '-B', '-r', 500, '-i', 1, '-x', 10, '-s', 8192);
# Windows as small as may be; the kernel takes some answers in their place, and then they are idle.
withstand('slow reading', 0, '/metrics', '-X', '-r', 200, '-n', 1, '-w', 8, '-y', 16, '-z', 5, '-k', 3);
is($tallyd->request('GET', '/healthz')->{status}, 200, 'it is well');
is($tallyd->stop, 0, 'drained');
done_testing();
