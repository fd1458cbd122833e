#!/usr/bin/perl
# New connections go to the worker that has fewer; one that is stuck holds nobody up.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::RealBin/lib";
use Tallyd qw(wait_until);

use constant CONNECTIONS => 20;
use constant MOST        => 17;    # of CONNECTIONS; as many by chance: once in 800 times
use constant ROUNDS      => 10;    # in one of which the worker must be quick enough to take them

sub state {
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return '';
	return <$file> =~ /\) (\S)/ ? $1 : '';
}

sub sockets { my ($pid) = @_; return scalar grep { (readlink // '') =~ /^socket:/ } glob "/proc/$pid/fd/*" }

# That many connections, one after the other, each of which has been answered once.
sub open_some {
	my ($tallyd) = @_;
	return map {
		my $connection = $tallyd->connection;
		is($_, 200, 'is answered') for grep { $_ != 200 }
			$tallyd->request('GET', '/', undef, undef, connection => $connection)->{status};
		$connection;
	} 1 .. CONNECTIONS;
}

my $tallyd = Tallyd->start(config => { workers => 2 });
my ($stuck, $other) = map { $_->{pid} } $tallyd->children('worker');
# The connection that found the daemon ready may be there a moment longer.
my %before;
ok((wait_until { %before = map { $_ => sockets($_) } $stuck, $other; select undef, undef, undef, 0.2; !grep { sockets($_) != $before{$_} } $stuck, $other } 10), 'at rest');

kill 'STOP', $stuck;
ok((wait_until { state($stuck) eq 'T' } 10), 'a worker is stopped');
my @first = open_some($tallyd);
cmp_ok(sockets($other) - $before{$other}, '>=', CONNECTIONS,
	'where one worker is stuck the other takes all connections');
kill 'CONT', $stuck;

my ($round, $taken) = (0, 0);
while ($taken < MOST && $round++ < ROUNDS) {
	my $had = sockets($stuck);
	my @second = open_some($tallyd);
	$taken = sockets($stuck) - $had;
}
cmp_ok($taken, '>=', MOST, 'who has fewer takes the next ones') or diag("$round rounds");

cmp_ok($tallyd->stop, '==', 0, 'tallyd stops');
done_testing();
