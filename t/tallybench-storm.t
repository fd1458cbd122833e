#!/usr/bin/perl
# tallybench where answers do not come, or make no sense, and beside a tallyd that reloads and dies:
# nothing is counted that did not happen, and the bounds hold.

use strict;
use warnings;

use File::Temp ();
use FindBin;
use lib "$FindBin::RealBin/lib";
use Bench;
use POSIX ();
use Tallyd qw(wait_until patience);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	CONNECTIONS => 3000, # of the stress preset, if so many files may be open
	FILES       => 200,  # besides
	RESTS       => 16,   # bytes of an answer at a time
};

my $good = '{"status":"accepted","account":"x","balance":1,"version":1,"lsn":"1"}';
my $lines = 'Content-Type: application/x-ndjson';

# What tallybench makes of a server that answers each request with what CODE returns, and closes
# where that is nothing; CODE gets the number of the connection and of the request on it, from 1.
sub against {
	my ($code, @arguments) = @_;
	my $fake = Bench::Fake->new(sub {
		my ($socket, $connection) = @_;
		my $number = 0;
		while (Bench::Fake::request($socket)) {
			my $bytes = $code->($connection, ++$number);
			return unless defined $bytes;
			print {$socket} $bytes;
			return if $bytes =~ /^Connection: close\r/m;
		}
	});
	return bench('-j', @arguments, $fake->url);
}

subtest 'answers that make no sense' => sub {
	for (
		['no HTTP', "hello\r\n", qr/no status line/],
		['200 without "accepted"', answer(200, '{}'), qr/no answer to its request/],
		['a body that is no answer', answer(204, ''), qr/no answer to its request/],
		['lines that nobody asked for', answer(200, "$good\n", $lines), qr/lines that nobody asked for/],
		['no line', answer(200, '', $lines), qr/fewer lines than events/],
		['a second answer', answer(200, $good) x 2, qr/nobody asked for/],
	) {
		my ($what, $bytes, $fault) = @$_;
		my $run = against(sub { $bytes }, '-n', 1, '-c', 1, '-t', 1);
		is($run->{status}, 1, $what) if $what ne 'a second answer';
		is($run->{json}{failed}{malformed}, 1, '... is counted') if $what ne 'a second answer';
	}
	# The run may be over before that arrives; with one more to come it is not.
	my $run = against(sub { $_[0] == 1 ? answer(200, $good) x 3 : answer(200, $good) }, '-n', 2, '-c', 1);
	is($run->{json}{failed}{malformed}, 1, 'more answers than requests');
	$run = against(sub { answer(200, $_[1] == 1 ? '{}' : $good) }, '-n', 6, '-c', 1, '-p', 3);
	is_deeply([@{ $run->{json} }{qw(accepted unknown)}], [0, 6], 'what was under way behind it is unknown');
	is_deeply($run->{json}{failed}, { timeouts => 0, cut => 4, malformed => 2, refused => 0 }, '... and told apart');
	my $text = bench('-n', 1, '-c', 1, Bench::Fake->new(sub { print { $_[0] } "what?\r\n"; sleep 1 })->url);
	like($text->{out}, qr/^  malformed answers +1\n  the first one: no status line$/m, 'the text says what');
};

subtest 'answers that come in small pieces' => sub {
	my $fake = Bench::Fake->new(sub {
		my ($socket) = @_;
		$socket->autoflush(1);
		while (Bench::Fake::request($socket)) {
			for my $piece (unpack '(a' . RESTS . ')*', answer(200, $good)) {
				print {$socket} $piece;
				sleep 0.002;
			}
		}
	});
	my $run = bench('-j', '-n', 10, '-c', 2, $fake->url);
	is("$run->{status} $run->{json}{accepted}", '0 10', 'are put together');
};

subtest 'no answer in time' => sub {
	my $start = time;
	my $run = against(sub { sleep 3600 }, '-n', 4, '-c', 2, '-p', 2, '-t', 0.4);
	is($run->{status}, 1, 'is a failure');
	is_deeply([@{ $run->{json} }{qw(accepted unknown requests)}], [0, 4, 4], 'of each request');
	is($run->{json}{failed}{timeouts}, 4, 'by its time');
	cmp_ok(time - $start, '>=', 0.4, 'after that time');
	cmp_ok(time - $start, '<', 3 * patience(), 'and not much later');
	# The first connection is silent, the others are well.
	$run = against(sub { sleep 3600 if $_[0] == 1; answer(200, $good) }, '-n', 20, '-c', 2, '-t', 0.4);
	is_deeply([@{ $run->{json} }{qw(accepted unknown)}], [19, 1], 'others go on');
	is($run->{json}{reconnects}, 0, 'a connection is not made again for nothing');
};

subtest 'a server that closes' => sub {
	my $run = against(sub { answer(200, $good, 'Connection: close') }, '-n', 30, '-c', 3);
	is($run->{status}, 0, 'after each answer: no failure') or diag $run->{out};
	is_deeply([@{ $run->{json} }{qw(accepted unknown)}], [30, 0], 'all are answered');
	cmp_ok($run->{json}{reconnects}, '>=', 27, 'connections are made again');
	my $start = time;
	my $fake = Bench::Fake->new(sub {
		Bench::Fake::request($_[0]);
		syswrite $_[0], answer(200, $good, 'Connection: close');
		sleep 3600;
	});
	$run = bench('-j', '-n', 8, '-c', 1, '-t', 5 * patience(), $fake->url);
	is("$run->{status} $run->{json}{accepted}", '0 8', 'one that only says that it closes');
	cmp_ok(time - $start, '<', 5 * patience(), '... is not waited for');
	$run = against(sub { answer(200, $good, $_[1] == 2 ? 'Connection: close' : ()) }, '-n', 8, '-c', 1, '-p', 4);
	is_deeply([@{ $run->{json} }{qw(accepted unknown)}], [4, 4], 'what was sent behind that is unknown');
	is($run->{json}{failed}{cut}, 4, '... as cut');
	$run = against(sub { $_[1] == 3 ? undef : answer(200, $good) }, '-n', 9, '-c', 1);
	is_deeply([@{ $run->{json} }{qw(accepted unknown reconnects)}], [6, 3, 2], 'without an answer: unknown');
	is($run->{status}, 1, '... and a failure');
};

subtest 'batches that end early' => sub {
	my $body = "$good\n" x 3;
	my $run = against(sub { answer(200, "$body$good\n$good\n", $lines) }, '-n', 4, '-b', 4, '-c', 1);
	is_deeply([@{ $run->{json} }{qw(accepted unknown)}, $run->{json}{failed}{malformed}], [4, 0, 1],
		'more lines than events');
	$run = against(sub { answer(200, $body, $lines) }, '-n', 4, '-b', 4, '-c', 1);
	is_deeply([@{ $run->{json} }{qw(accepted unknown)}, $run->{json}{failed}{malformed}], [3, 1, 1],
		'fewer lines: the rest is unknown');
	$run = against(sub { answer(200, $body . qq({"status":"rejected","reason":"draining"}\n), $lines) },
		'-n', 6, '-b', 6, '-c', 1);
	is_deeply([@{ $run->{json} }{qw(accepted rejected unknown)}], [3, 0, 3],
		'a line that ends the stream speaks of no event');
	is_deeply($run->{json}{failed}, { timeouts => 0, cut => 1, malformed => 0, refused => 0 }, '... and is no nonsense');
	$run = against(sub { answer(503, '{"status":"rejected","reason":"busy"}', 'Connection: close') },
		'-n', 6, '-b', 3, '-c', 1);
	is_deeply([@{ $run->{json} }{qw(rejected unknown reasons)}], [6, 0, { busy => 6 }],
		'a refusal of the whole is one of each event');
};

subtest 'a server that goes away' => sub {
	my $tallyd = Tallyd->start;
	my $child = bench_begin('-j', '-n', 100_000_000, '-c', 4, '-t', 0.5, '-a', 2, $tallyd->url);
	ok((wait_until { $tallyd->balance('bench0') }), 'a run has begun');
	$tallyd->kill9;
	my $run = bench_end($child);
	is($run->{status}, 1, 'a failure');
	my $json = $run->{json};
	is($json->{accepted} + $json->{unknown} + $json->{unsent}, 100_000_000, 'each operation is accounted for');
	cmp_ok($json->{unsent}, '>', 0, '... most were not sent');
	cmp_ok($json->{unknown}, '<=', 4 + $json->{reconnects}, '... and those under way are unknown');
	cmp_ok($json->{failed}{refused}, '>', 0, 'connections were refused');
};

subtest 'stopped by a signal' => sub {
	my $tallyd = Tallyd->start;
	for my $how (['-d', 600], ['-d', 600, '-r', 100], ['-n', 1_000_000_000]) {
		my $child = bench_begin('-j', '-v', '-a', 2, '--prefix', "p$how->[1]-" . @$how, @$how, $tallyd->url);
		ok((wait_until { $tallyd->balance("p$how->[1]-" . @$how . '0') }), "@$how: has begun");
		kill 'INT', $child->{pid};
		my $run = bench_end($child);
		is($run->{status}, 0, 'SIGINT: ends well') or diag $run->{err};
		ok($run->{json}{verify}{good}, '... with its verification');
		is($run->{json}{unsent}, 0, '... and what was not due any more is not missing');
	}
	is($tallyd->stop, 0, 'it stops');
};

subtest 'beside reloads and deaths' => sub {
	my $tallyd = Tallyd->start;
	for my $how (['-p', 4, '-m', 'event=4,transfer,hold+capture'], ['-b', 50], ['-r', 2000, '-i']) {
		my $child = bench_begin('-j', '-v', '-A', '-2:3', '-d', 1.5, '-c', 8, '-a', 20, @$how, $tallyd->url);
		my $deaths = 0;
		while (bench_runs($child)) {
			$tallyd->hup;
			sleep 0.15;
			my ($worker) = reverse $tallyd->children('worker');
			$deaths += kill 'KILL', $worker->{pid} if $worker;
			sleep 0.15;
		}
		my $run = bench_end($child);
		my $json = $run->{json};
		cmp_ok($deaths, '>', 1, "@$how: $deaths deaths, $json->{unknown} unknown, $json->{reconnects} reconnects");
		ok($json->{verify}{good}, '... accepted = applied, within what is unknown') or diag $run->{err};
		cmp_ok($json->{accepted}, '>', 100, '... of many');
		cmp_ok($json->{reconnects}, '>', 0, '... over connections that were made again');
		is($json->{failed}{malformed}, 0, '... and no answer is nonsense');
		is($run->{status}, $json->{unknown} + $json->{failed}{refused} > 0 ? 1 : 0, '... the status says so');
	}
	is($tallyd->stop, 0, 'it stops');
};

# The limits on open files, as ulimit(1) says.
sub files { my ($how) = @_; my $files = `sh -c 'ulimit $how -n'`; chomp $files; return $files =~ /^\d+$/ ? $files : 1e9 }

# Of a Unix socket the kernel says at once that no more can wait there.
subtest 'more connections than there is room for' => sub {
	my $socket = File::Temp::tempdir(CLEANUP => 1) . '/socket';
	my $tallyd = Tallyd->start(config => { workers => 1, max_connections => 8 },
		listen => [['127.0.0.1:0', { protocol => 'http' }], ["unix:$socket", { protocol => 'http', backlog => 1 }]]);
	my $run = bench('-c', 30, '-t', 2, "unix:$socket");
	is($run->{status}, 1, 'the load does not begin');
	my ($open) = $run->{err} =~ /: (\d+) of 30 connections could be opened within 2 s: Resource temporarily unavailable$/m;
	ok($open && $open >= 8 && $open < 30, 'it says how many could be opened') or diag $run->{err};
	is($tallyd->stop, 0, 'drained');
};

subtest 'the stress preset' => sub {
	my $most = files('-H') - FILES;
	my $connections = $most < CONNECTIONS ? $most : CONNECTIONS;
	plan skip_all => 'too few files may be open' if $connections < 100;
	my $tallyd = Tallyd->start(config => { workers => 2, max_connections => 4096,
		ring_size => '8M', journal_segment => '16M' });
	my @limited = ('sh', '-c', 'ulimit -S -n 64; exec "$@"', 'sh');
	my $run = bench(\@limited, '-j', '-v', '-c', $connections, '--preset', 'stress', '-n', 3 * $connections,
		'-t', 30, $tallyd->url);
	is($run->{status}, 0, "$connections connections, though 64 files were allowed: good") or diag $run->{err};
	is($run->{json}{connections}, $connections, 'what else is said changes the preset');
	is($run->{json}{accepted}, 3 * $connections, 'each sends');
	# As somebody who may not raise it.
	@limited = ('sh', '-c', 'ulimit -n 300; exec "$@"', 'sh');
	@limited = ('setpriv', '--bounding-set', '-sys_resource', '--inh-caps', '-sys_resource', @limited) if $> == 0;
	$run = bench(\@limited, '--preset', 'stress', $tallyd->url);
	is($run->{status}, 2, 'where it may not raise the limit, it does not begin');
	like($run->{err}, qr/10000 connections need 10032 open files, and at most 300 .*ulimit -n 10032.*--connections 268$/,
		'... and says what to do');
	$run = bench('-c', 1000, '-p', 1000, '-b', 100, $tallyd->url);
	is($run->{status}, 2, 'more than memory should hold');
	like($run->{err}, qr/would take \d+ MiB: use fewer connections/, '... is refused');
	is($tallyd->stop, 0, 'it stops');
};

done_testing();
