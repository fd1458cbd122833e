#!/usr/bin/perl
# log_format = json: each line of each process is one JSON object, and so are the access log's; a
# reload changes it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use JSON::PP ();
use Tallyd qw(read_response send_all slurp wait_until);
use Test::More;

my $TIME = qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

my $tallyd = Tallyd->start(config => { workers => 2, log_format => 'json', log_level => 'debug' });
my $access = $tallyd->dir . '/access.log';

sub objects {
	my ($text) = @_;
	return map { my $line = $_; eval { JSON::PP->new->utf8->decode($line) } || { broken => $line } } split /\n/, $text;
}

# Makes every process say something.
sub provoke {
	my $socket = $tallyd->raw_socket;
	send_all($socket, qq(GET /\xff"\\ HTTP/1.1\r\n\r\n));
	read_response($socket);
	return;
}

sub test_log {
	provoke();
	my @lines;
	ok(wait_until { @lines = objects($tallyd->log_text); grep { ($_->{message} || '') =~ /^refused: malformed requests/ } @lines },
		'a worker writes JSON');
	is_deeply([grep { $_->{broken} || join(' ', sort keys %$_) ne 'level message pid role time' || $_->{time} !~ $TIME } @lines], [],
		'every line is an object with the same keys');
	my %role = map { $_->{role} => 1 } @lines;
	ok($role{master}, 'the master writes JSON');
	my ($served) = grep { $_->{message} =~ /^serving with/ } @lines;
	is($served->{pid}, $tallyd->pid, 'who says so says who it is');
	is($served->{level}, 'notice', 'and how much it matters');
	return;
}

sub reload {
	my (%config) = @_;
	my $mark = $tallyd->log_mark;
	$tallyd->set_config(%config);
	$tallyd->hup;
	ok(wait_until { substr($tallyd->log_text, $mark) =~ /reloaded: \d+ workers/ }, 'reloaded');
	return $mark;
}

sub test_reload {
	my $mark = reload(log_format => 'text', access_log => $access);
	like(substr($tallyd->log_text, $mark), qr/^20\S+Z tallyd\[\d+\] master notice: reloaded: 2 workers$/m, 'a reload makes it text');
	provoke();
	ok(wait_until { substr($tallyd->log_text, $mark) =~ /^20\S+Z tallyd\[\d+\] worker \d info: refused: malformed requests/m }, 'in new workers, too');
	ok(wait_until { -e $access && slurp($access) =~ m{"GET /\\xFF\\x22\\x5C HTTP/1.1" 400 } }, 'and in the access log');
	my $old;
	wait_until { ($old) = $tallyd->children('journal') };
	$mark = reload(log_format => 'json');
	# The old one leaves with a reload that changes the log.
	ok(wait_until { !grep { $_->{pid} == $old->{pid} } $tallyd->children('journal') }, 'the journal writer is another one');
	my $writer;
	ok(wait_until { ($writer) = $tallyd->children('journal') }, '... that is there');
	my $from = -s $access;
	kill 'KILL', $writer->{pid};
	my @lines;
	ok(wait_until {
		@lines = objects(substr $tallyd->log_text, $mark);
		grep { ($_->{message} || '') =~ /^journal writer .* was killed/ } @lines;
	}, 'and another makes it JSON again');
	$tallyd->request('GET', '/healthz');
	$tallyd->event('a', 1);
	provoke();
	ok(wait_until { @lines = objects(substr slurp($access), $from); @lines == 3 }, 'in the access log as well');
	# Each worker writes its own when it comes to it.
	@lines = sort { $b->{request} =~ /POST/ <=> $a->{request} =~ /POST/ || $b->{request} cmp $a->{request} } @lines;
	is_deeply([map { "$_->{request} $_->{status} $_->{peer}" } @lines],
		['POST /events HTTP/1.1 200 127.0.0.1', 'GET /healthz HTTP/1.1 200 127.0.0.1', 'GET /\xFF\x22\x5C HTTP/1.1 400 127.0.0.1'],
		'each request has its line') or diag(explain(\@lines));
	is(join(' ', grep { $lines[0]{$_} !~ ($_ eq 'time' ? $TIME : qr/^\d+$/) } qw(time bytes lsn us)), '', 'with its time, bytes, LSN and microseconds');
	ok(!exists $lines[1]{lsn}, 'and without an LSN if it depends on none');
	return;
}

test_log();
test_reload();
is($tallyd->stop, 0, 'drained');
done_testing();
