#!/usr/bin/perl
# The end of a listener that a reload removes: who waits in its backlog is served, or else reset, and
# nobody at the other listeners notices.

use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use Test::More;

use lib "$FindBin::RealBin/lib";
use Hammer;
use Tallyd qw(read_response send_all slurp wait_until);

my $WAITING = $ENV{TALLYD_TEST_WAITING} || 20;    # connections in each backlog

use constant PROMPTLY => 10;    # seconds for what does not have to wait

my $body = '{"account":"waiting","amount":1}';
my $request = "POST /events HTTP/1.1\r\nHost: t\r\nContent-Length: " . length($body) . "\r\n\r\n$body";

sub state {
	my ($pid) = @_;
	my $text = eval { slurp("/proc/$pid/stat") } // '';
	return $text =~ /\) (\S)/ ? $1 : '';
}

sub workers { return map { $_->{pid} } $_[0]->children('worker') }

# Three listeners, of which the last two are to go.
sub start {
	return Tallyd->start(listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', {}], ['unix:%DIR%/socket', {}]]);
}

# Stops TALLYD's workers, lets connections with a request wait at both listeners, and removes these.
# The workers that were stopped, and the connections.
sub remove_listeners {
	my ($tallyd) = @_;
	my @stopped = workers($tallyd);
	kill 'STOP', @stopped;
	wait_until { !grep { state($_) ne 'T' } @stopped } PROMPTLY or die 'the workers do not stop';
	my @waiting = map { ($tallyd->connection(1), $tallyd->connection(2)) } 1 .. $WAITING;
	send_all($_, $request) for @waiting;
	my $mark = $tallyd->log_mark;
	$tallyd->set_listen([$tallyd->address, {}]);
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: 2 workers|reload failed/, 20, $mark), 'a reload');
	like(substr($tallyd->log_text, $mark),
		qr/no longer listening on 127.*no longer listening on unix.*reloaded/s, '... removes both listeners');
	is(scalar(grep { defined sysread $_, my ($byte), 1 } @waiting), 0, 'their connections wait');
	return (\@stopped, \@waiting);
}

# TALLYD's other listener is under load while DO runs, and the load must not notice.
sub undisturbed {
	my ($tallyd, $do) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $load = Hammer->start($tallyd, connections => 8, accounts => 20);
	ok($load->wait_more(1), 'the other listener serves');
	$do->();
	ok($load->wait_more(100), '... all the time');
	my $told = $load->finish;
	my @bad = map { $told->{$_} ? "$told->{$_} $_" : () } qw(unknown breaks refusals_to_connect);
	is_deeply([@bad, Hammer::oddities($told), %{ $told->{refused} }], [], '... without losing a request');
	is_deeply([Hammer::lost($tallyd, $told)], [], '... or an event');
	return;
}

# Nothing is left of the listeners, nor of those who held them.
sub gone {
	my ($tallyd, $port, $stopped) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %old = map { $_ => 1 } @$stopped;
	ok((wait_until { my @now = workers($tallyd); @now == 2 && !grep { $old{$_} } @now } PROMPTLY),
		'the old workers are gone');
	ok(!IO::Socket::INET->new("127.0.0.1:$port"), 'nobody can connect to the port');
	ok(!-e $tallyd->dir . '/socket', 'the socket is gone');
	return;
}

subtest 'who waits at a listener that goes is served' => sub {
	my $tallyd = start();
	my $port = $tallyd->port(1);
	my ($stopped, $waiting) = remove_listeners($tallyd);
	my %got;
	undisturbed($tallyd, sub {
		kill 'CONT', @$stopped;
		for my $connection (@$waiting) {
			my $answer = eval { read_response($connection) };
			$got{ $answer ? "$answer->{status} $answer->{headers}{connection}" : $@ || 'nothing' }++;
		}
	});
	is_deeply(\%got, { '200 close' => 2 * $WAITING }, 'all are answered, for the last time');
	gone($tallyd, $port, $stopped);
	is($tallyd->balance('waiting'), 2 * $WAITING, 'and counted');
	is($tallyd->stop, 0, 'it stops');
};

subtest '... or reset, if nobody is left to serve' => sub {
	my $tallyd = start();
	my $port = $tallyd->port(1);
	my ($stopped, $waiting) = remove_listeners($tallyd);
	my @hanging;
	undisturbed($tallyd, sub {
		kill 'KILL', @$stopped;
		@hanging = grep { !$tallyd->closed($_, PROMPTLY) } @$waiting;
	});
	is(scalar @hanging, 0, 'no connection hangs');
	gone($tallyd, $port, $stopped);
	is($tallyd->balance('waiting'), undef, 'and no event was taken');
	is($tallyd->stop, 0, 'it stops');
};

done_testing();
