#!/usr/bin/perl
# tallybench beside a tallyd that does its work: what it counts is what happened, and its forms of
# output are what they should be.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Bench;
use File::Temp ();
use List::Util qw(sum0);
use Tallyd qw(wait_until slurp patience);
use Test::More;
use Time::HiRes qw(sleep);

use constant STOPPED => 0.3; # seconds

my $good = '{"status":"accepted","account":"x","balance":1,"version":1,"lsn":"1"}';

sub total { my ($tallyd, @names) = @_; return sum0 map { $tallyd->balance($_) // 0 } @names }

sub accounts { my ($count, $prefix) = @_; return map { ($prefix || 'bench') . $_ } 0 .. $count - 1 }

subtest 'arguments' => sub {
	my $url = 'http://127.0.0.1:1';
	for (
		[qr/no URL/],
		[qr/one URL; to measure several/, $url, $url],
		[qr/not a URL of the form/, 'ftp://x'],
		[qr/not a URL of the form/, 'http://'],
		[qr/not a URL of the form/, 'http://a:b'],
		[qr/not a URL of the form/, 'http://127.0.0.1:0'],
		[qr/not a URL of the form/, 'http://127.0.0.1:65536'],
		[qr/not a URL of the form/, 'http://a:80/path'],
		[qr/not a URL of the form/, 'http://[::1'],
		[qr/must begin with a slash/, 'unix:x'],
		[qr/may have 107 bytes/, 'unix:/' . 'x' x 107],
		[qr/--connections: "0" is not a number from 1 to 100000/, '-c', 0, $url],
		[qr/--connections: "100001"/, '-c', 100_001, $url],
		[qr/--connections: "-1"/, '-c', -1, $url],
		[qr/--connections: "1x"/, '-c', '1x', $url],
		[qr/--pipeline: "1025"/, '-p', 1025, $url],
		[qr/--batch: "100001"/, '-b', 100_001, $url],
		[qr/--accounts: "10000001"/, '-a', 10_000_001, $url],
		[qr/--accounts: this mix needs 2/, '-a', 1, '-m', 'transfer', $url],
		[qr/--accounts: this mix needs 16/, '-a', 15, '-m', 'transaction', '-l', 16, $url],
		[qr/--legs: "17" is not a number from 2 to 16/, '-l', 17, $url],
		[qr/--skew: "even" is neither/, '-s', 'even', $url],
		[qr/--skew zipf: "0"/, '-s', 'zipf:0', $url],
		[qr/--skew zipf: "21"/, '-s', 'zipf:21', $url],
		[qr/--skew zipf: "nan"/, '-s', 'zipf:nan', $url],
		[qr/no operation "dance"/, '-m', 'event,dance', $url],
		[qr/event comes twice/, '-m', 'event,event', $url],
		[qr/--mix: "0" is not a number from 1/, '-m', 'event=0', $url],
		[qr/no operation ""/, '-m', 'event,', $url],
		[qr/the text is too long/, '-m', 'event,' x 50, $url],
		[qr/--batch takes events only/, '-b', 2, '-m', 'event,read', $url],
		[qr/--amount: "x"/, '-A', 'x', $url],
		[qr/--amount: "2:1"/, '-A', '2:1', $url],
		[qr/--amount: "1000001"/, '-A', 1_000_001, $url],
		[qr/--rate: "0" is not a number above 0/, '-r', 0, $url],
		[qr/--rate: "inf"/, '-r', 'inf', $url],
		[qr/--rate: "0x10"/, '-r', '0x10', $url],
		[qr/--duration: "2592001"/, '-d', 2_592_001, $url],
		[qr/--duration and --operations/, '-d', 1, '-n', 1, $url],
		[qr/--operations: "0"/, '-n', 0, $url],
		[qr/--timeout: "3601"/, '-t', 3601, $url],
		[qr/--token: not 1 to 1024 characters/, '-T', 'a b', $url],
		[qr/--token: not/, '-T', 't' x 1025, $url],
		[qr/--token: not/, '-T', 'a=b', $url],
		[qr{--token-file: cannot read /nowhere: No such file}, '--token-file', '/nowhere', $url],
		[qr/--token-file: .*it is empty/, '--token-file', '/dev/null', $url],
		[qr/--prefix: "a b" is not/, '--prefix', 'a b', $url],
		[qr/--prefix: /, '--prefix', 'p' x 33, $url],
		[qr/--seed: "-1"/, '--seed', -1, $url],
		[qr/--sources: "255"/, '--sources', 255, $url],
		[qr/--preset: there is none called "calm", but stress/, '--preset', 'calm', $url],
		[qr/--rounds is for compare/, '--rounds', 2, $url],
		[qr/compare needs two URLs/, 'compare', $url],
		[qr/compare takes up to 8 URLs/, 'compare', ($url) x 9],
		[qr/--plot is for one run/, 'compare', '--plot', '/x', $url, $url],
		[qr/--rounds: "100"/, 'compare', '--rounds', 100, $url, $url],
		[qr/invalid option/, '-Z', $url],
	) {
		my ($message, @arguments) = @$_;
		my $run = bench(@arguments);
		my $shown = join ' ', map { length > 30 ? substr($_, 0, 30) . '...' : $_ } @arguments;
		is("$run->{status}$run->{out}", 2, "refused: $shown");
		like($run->{err}, $message, '... with the reason');
	}
	my $run = bench('--help');
	is($run->{status}, 0, '--help is no error');
	like($run->{out}, qr/^usage: tallybench/, '... and helps');
	$run = bench('-V');
	like("$run->{status} $run->{out}", qr/^0 tallybench \d/, '-V');
	$run = bench($url);
	is($run->{status}, 1, 'a server that is not there: 1');
	like($run->{err}, qr/cannot connect to http:.*: Connection refused/, '... with the reason');
	unlike($run->{err}, qr/see tallybench --help/, '... which is no fault of the arguments');
};

# With room in its journal: what is counted here must not meet queue_full.
my $tallyd = Tallyd->start(config => { workers => 2, max_holds => 4096, sync => 'interval',
		ring_size => '8M', journal_segment => '16M' },
	listen => [['127.0.0.1:0', { protocol => 'http' }], ['unix:%DIR%/socket', { protocol => 'http' }]]);
my @urls = ($tallyd->url, $tallyd->address(1));

subtest 'events are counted as they are applied' => sub {
	my $run = bench('-j', '-v', '-n', 3000, '-c', 8, '-p', 4, '-a', 50, $urls[0]);
	my $json = $run->{json};
	is($run->{status}, 0, 'good') or diag $run->{err};
	is_deeply([@$json{qw(accepted rejected unknown unsent requests)}], [3000, 0, 0, 0, 3000], 'all are accepted');
	is(total($tallyd, accounts(50)), 3000, 'and are there');
	is_deeply($json->{verify}, { good => JSON::PP::true, accounts => 50, wrong => 0, least => 3000,
		most => 3000, applied => 3000 }, 'which --verify has seen');
	is($json->{kinds}{event}{accepted}, 3000, 'by kind, too');
	my $latency = $json->{latency_us};
	my @rising = @$latency{qw(min p50 p75 p90 p99 p99.9 p99.99 max)};
	is_deeply(\@rising, [sort { $a <=> $b } @rising], 'percentiles rise');
	cmp_ok($rising[0], '>', 0, 'from above 0');
	cmp_ok(abs($json->{throughput} * $json->{seconds} / 3000 - 1), '<', 0.001, 'the throughput is their quotient');
};

subtest 'refusals are counted by reason' => sub {
	$tallyd->call('PUT', "/accounts/floor$_", { floor => 0 }) for 0 .. 9;
	$tallyd->event("floor$_", 10) for 0 .. 9;
	my $run = bench('-j', '-v', '-n', 1000, '-a', 10, '-A', -1, '--prefix', 'floor', $urls[0]);
	is($run->{status}, 0, 'refusals are no failures');
	is_deeply([@{ $run->{json} }{qw(accepted rejected reasons)}],
		[100, 900, { insufficient_funds => 900 }], '100 were covered, 900 were not');
	is($run->{json}{verify}{applied}, -100, 'nothing else was applied');
	$run = bench('-v', '-n', 100, '-a', 10, '-b', 25, '-A', '-1', '--prefix', 'floor', $urls[0]);
	like($run->{out}, qr/^accepted +0\nrejected +100\n  insufficient_funds +100\n/m, 'lines of a batch, too');
};

subtest 'all operations' => sub {
	my $mix = 'event=3,transfer=2,transaction=2,hold+capture=2,hold+release=2,read=1';
	for my $ids ([], ['-i']) {
		for my $url (@urls) {
			my $run = bench('-j', '-v', '-n', 1200, '-c', 6, '-p', 5, '-a', 40, '-s', 'zipf:0.9',
				'-A', '1:9', @$ids, '-m', $mix, $url);
			my $kinds = $run->{json}{kinds};
			is($run->{status}, 0, join ' ', 'good:', @$ids, $url =~ /^(\w+)/) or diag $run->{err};
			is($run->{json}{verify}{wrong}, 0, 'all accounts are what they must be');
			is($kinds->{capture}{accepted} + $kinds->{release}{accepted}, $kinds->{hold}{accepted},
				'each hold is settled');
			my $operations = sum0 map { $kinds->{$_}{accepted} + $kinds->{$_}{rejected} }
				qw(event transfer transaction hold read);
			is($operations, 1200, 'so many operations, a hold with its settlement is one');
			is(scalar(grep { $kinds->{$_}{accepted} } keys %$kinds), 7, 'of every kind');
		}
	}
	my $held = sum0 map { $tallyd->call('GET', "/accounts/$_")->{json}{held} } accounts(40);
	is($held, 0, 'nothing is held any more');
};

subtest 'batches' => sub {
	my $run = bench('-j', '-v', '-n', 1050, '-b', 100, '-c', 3, '-p', 2, '-i', '--prefix', 'batch', $urls[0]);
	is($run->{status}, 0, 'good') or diag $run->{err};
	is_deeply([@{ $run->{json} }{qw(accepted requests)}], [1050, 11], '1050 events in 11 requests');
	$run = bench('-j', '-v', '-n', 60_000, '-b', 20_000, '-c', 2, '--prefix', 'batch', $urls[1]);
	is($run->{json}{accepted}, 60_000, 'a batch that no buffer holds');
	ok($run->{json}{verify}{good}, '... is applied');
};

subtest 'a seed' => sub {
	my @sums;
	for (1, 2) {
		bench('-n', 300, '-c', 1, '-a', 20, '--seed', 5, '--prefix', "seed$_-", $urls[0]);
		push @sums, join ' ', map { $tallyd->balance($_) // 0 } accounts(20, "seed$_-");
	}
	is($sums[0], $sums[1], 'makes two runs alike');
	bench('-n', 300, '-c', 1, '-a', 20, '--seed', 6, '--prefix', 'seed3-', $urls[0]);
	isnt(join(' ', map { $tallyd->balance($_) // 0 } accounts(20, 'seed3-')), $sums[0], 'another makes another');
};

# Begins a run of some seconds, and waits until its first events are there.
sub begin_run {
	my ($prefix, @arguments) = @_;
	my $child = bench_begin('-j', '-a', 5, '--prefix', $prefix, @arguments, $urls[0]);
	ok((wait_until { total($tallyd, accounts(5, $prefix)) > 0 }), 'a run has begun');
	return $child;
}

subtest 'somebody else changes an account meanwhile' => sub {
	my $child = begin_run('other', '-v', '-r', 300, '-d', 1);
	$tallyd->event('other3', 1);
	ok(bench_runs($child), 'an event of ours within it');
	my $run = bench_end($child);
	is($run->{status}, 1, 'is noticed');
	is_deeply([@{ $run->{json}{verify} }{qw(good wrong least applied)}], [JSON::PP::false, 1, 300, 301],
		'as one account, and one too much');
	like($run->{err}, qr/^tallybench: account other3: was 0, accepted/m, 'which is named');
	$child = begin_run('both', '-v', '-r', 300, '-d', 1);
	$tallyd->event('both1', $_) for 7, -7;
	$run = bench_end($child);
	is($run->{status}, 1, 'two that cancel each other');
	is_deeply([@{ $run->{json}{verify} }{qw(good wrong applied)}], [JSON::PP::false, 1, 300], '... are as well');
};

subtest 'an open loop' => sub {
	my $run = bench('-j', '-n', 200, '-r', 400, $urls[0]);
	cmp_ok($run->{json}{seconds}, '>', 0.497, 'takes as long as its rate says');
	is($run->{json}{requests}, 200, 'for so many');
	$run = bench('-j', '-d', 0.5, '-r', 2000, '-b', 7, $urls[0]);
	is_deeply([@{ $run->{json} }{qw(accepted requests)}], [1000, 143], 'rate times duration, in batches');
	# The server stands still; what was due meanwhile would have waited.
	my $child = begin_run('still', '-v', '-c', 4, '-r', 1000, '-d', 1.5);
	my @workers = map { $_->{pid} } $tallyd->children('worker');
	kill 'STOP', @workers;
	sleep STOPPED;
	kill 'CONT', @workers;
	$run = bench_end($child);
	is_deeply([@{ $run->{json} }{qw(accepted requests)}], [1500, 1500], 'a server that stood still: all are sent');
	ok($run->{json}{verify}{good}, 'and applied');
	# A fifth of them were due within it, evenly.
	cmp_ok($run->{json}{latency_us}{max}, '>=', 0.97e6 * STOPPED, 'the longest waited as long');
	cmp_ok($run->{json}{latency_us}{p99}, '>=', 0.8e6 * STOPPED, 'and p99 shows it, though only four were under way');
	cmp_ok($run->{json}{latency_us}{p90}, '>=', 0.3e6 * STOPPED, 'p90, too');
};

subtest 'text' => sub {
	my $run = bench('-v', '-n', 100, '-a', 10, '-i', '-s', 'zipf:1', '-p', 2, '--prefix', 'text', $urls[0]);
	my $number = qr/\d+(?:\.\d+)? (?:us|ms|s)/;
	like($run->{out}, qr{^\Q$urls[0]\E: 64 connections, 2 deep, 10 accounts \(zipf:1\), with ids, as fast as it goes
answered in \d+\.\d+ +100  \S+ [kM]?/s
accepted +100
rejected +0
failed +0
latency +p50 +p75 +p90 +p99 +p99\.9 +p99\.99 +max
  all (?: +$number){7}
verify: good: 100 accepted; 0 of 10 accounts differ, their sum changed by \+100
$}, 'is what it is');
	is($run->{err}, '', 'without a terminal there is no progress');
	$run = bench(sub { open STDERR, '>&', \*STDOUT }, ['sh', '-c', 'exec "$@" >/dev/full', 'sh'], '-n', 10, $urls[0]);
	is($run->{status}, 1, 'what cannot be written is a failure');
	like($run->{err}, qr/standard output: No space left/, '... and is named');
};

# No connection gets a number that is printed to.
subtest 'closed descriptors' => sub {
	my $child = bench_begin(['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh'], '-r', 100, '-d', 1, $urls[0]);
	my $sockets = sub { grep { /^socket:/ } map { readlink || '' } glob "/proc/$child->{pid}/fd/*" };
	ok((wait_until { $sockets->() >= 64 }), 'a run has begun');
	is(join(' ', map { readlink "/proc/$child->{pid}/fd/$_" } 0 .. 2), join(' ', ('/dev/null') x 3), 'they are nothing');
	is(bench_end($child)->{status}, 1, 'nobody got what it says');
};

subtest 'progress on a terminal' => sub {
	my $program = bench_program();
	my $out = `script -qec '$program -r 100 -d 1.4 $urls[0]' /dev/null </dev/null`;
	like($out, qr{\r\e\[K +\d+ s +\d+\.\d /s  p99 +\S+ \w+  rejected 0  errors 0}, 'a line');
	like($out, qr{\r\e\[Khttp://\S+: 64 connections}, 'that makes way for the result');
	$out = `script -qec '$program -q -r 100 -d 1.4 $urls[0]' /dev/null </dev/null`;
	unlike($out, qr/\e/, 'and with --quiet none');
};

subtest 'a plot' => sub {
	my $file = File::Temp->new;
	my $run = bench('-j', '-n', 500, '--plot', $file->filename, $urls[0]);
	my @lines = split /\n/, slurp($file->filename);
	is($lines[0], '       Value     Percentile TotalCount 1/(1-Percentile)', 'its title');
	my @points = map { [split] } grep { /^ *\d/ } @lines;
	cmp_ok(scalar @points, '>', 20, 'points');
	is_deeply([@{ $points[-1] }[1 .. 3]], ['1.000000000000', 500, 'inf'], 'the last one is all of them');
	cmp_ok(abs($points[-1][0] * 1000 - $run->{json}{latency_us}{max}), '<', 0.01, '... up to the longest, in ms');
	like($lines[-2], qr/^#\[Max     = +[\d.]+, Total count    = +500\]$/, 'the summary');
	$run = bench('-n', 10, '--plot', '/nowhere/plot', $urls[0]);
	is($run->{status}, 1, 'one that cannot be written is a failure');
	like($run->{err}, qr{cannot write /nowhere/plot: No such file}, '... and is named');
};

subtest 'compare' => sub {
	my $run = bench('compare', '--rounds', 2, '-n', 200, '-v', @urls);
	is($run->{status}, 0, 'two servers') or diag $run->{err};
	like($run->{out}, qr{^2 rounds each.*\n  1  \Q$urls[0]\E\n  2  \Q$urls[1]\E\n}, 'are named');
	like($run->{out}, qr{^throughput +\S+ [kM]?/s +\S+ [kM]?/s +\d+\.\d\d x$}m, 'side by side with a ratio');
	like($run->{out}, qr{^accepted +200 +200 +1\.00 x$}m, 'of each line');
	$run = bench('compare', '-j', '--rounds', 3, '-n', 200, @urls);
	my @servers = @{ $run->{json}{servers} };
	is_deeply([map { $_->{url} } @servers], \@urls, 'as JSON');
	is_deeply([map { scalar @{ $_->{rounds} } } @servers], [3, 3], 'three rounds of each');
	for (@servers) {
		my ($median) = (sort { $a <=> $b } map { $_->{throughput} } @{ $_->{rounds} })[1];
		is($_->{throughput}, $median, 'and their median');
	}
	cmp_ok(abs($servers[1]{ratio}{throughput} - $servers[1]{throughput} / $servers[0]{throughput}), '<', 0.001,
		'the ratio is to the first');
	my $fake = Bench::Fake->new(sub {
		my ($socket) = @_;
		print {$socket} answer(503, '{"status":"rejected","reason":"queue_full"}') while Bench::Fake::request($socket);
	});
	$run = bench('compare', '-j', '--rounds', 1, '-n', 50, $urls[0], $fake->url);
	is_deeply([map { [@$_{qw(accepted rejected)}] } @{ $run->{json}{servers} }], [[50, 0], [0, 50]],
		'what was rejected is told apart');
};
is($tallyd->stop, 0, 'it stops');

subtest 'too much at once' => sub {
	my $slow = Tallyd->start(config => { workers => 1, queue_events => 50, journal_delay => 20 });
	my $run = bench('-j', '-v', '-n', 2000, '-c', 20, '-p', 20, '-a', 10, $slow->url);
	my $json = $run->{json};
	is($run->{status}, 0, 'good');
	is($json->{accepted} + $json->{rejected}, 2000, 'each has its answer');
	is_deeply($json->{reasons}, { queue_full => $json->{rejected} }, 'queue_full is the one reason');
	cmp_ok($json->{rejected}, '>', 0, '... of some');
	is(total($slow, accounts(10)), $json->{accepted}, 'what was accepted is there');
	is($slow->stop, 0, 'it stops');
};

subtest 'tokens and sources' => sub {
	my $fake = Bench::Fake->new(sub {
		my ($socket, undef, $note) = @_;
		while (my ($head) = Bench::Fake::request($socket)) {
			print {$note} $socket->peerhost, ' ', $head =~ /^Authorization: (.*?)\r/m ? $1 : 'none', "\n";
			print {$socket} answer(200, $good);
		}
	});
	my $file = File::Temp->new;
	print {$file} "secret+2==\nmore\n";
	close $file;
	is(bench('-n', 4, '-c', 4, '--sources', 4, '-T', 'secret-1', $fake->url)->{status}, 0, 'four sources, a token');
	is(join('', sort split /^/, $fake->seen), join('', map { "127.0.0.$_ Bearer secret-1\n" } 1 .. 4), 'are seen');
	is(bench('-n', 1, '-c', 1, '--token-file', $file->filename, $fake->url)->{status}, 0, 'a token from a file');
	like($fake->seen, qr/^127\.0\.0\.1 Bearer secret\+2==\n\z/m, 'is seen');
	is(bench('-n', 1, '-c', 1, $fake->url)->{status}, 0, 'no token');
	like($fake->seen, qr/ none\n\z/, 'is none');
	my $socket = File::Temp::tempdir(CLEANUP => 1) . '/s';
	my $listener = IO::Socket::UNIX->new(Local => $socket, Listen => 1) or die $!;
	my $run = bench('--sources', 2, "unix:$socket");
	is($run->{status}, 2, 'sources for a Unix socket');
	like($run->{err}, qr/--sources is for servers on 127/, '... are refused');
};

done_testing();
