#!/usr/bin/perl
# A thousand feeds beside writers: all get on, each in order, and the writers go on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Test::More;
use Check;
use Hammer;
use Tallyd qw(build_dir wait_until patience);

use constant { FEEDS => 1000, EVENTS => 3000 };

my $program = build_dir() . '/t/audience';
my $files = `sh -c 'ulimit -Hn'`;
plan skip_all => "only $files descriptors" if $files =~ /^\d+$/ && $files < 4 * FEEDS;

my $tallyd = use_daemon(Tallyd->start(config => { workers => 2 }));
my $pid = open my $out, '-|', $program, $tallyd->port, FEEDS, '?format=ndjson' or die "$program: $!";
is(scalar <$out>, "ready\n", FEEDS . ' feeds');
my $hammer = Hammer->start($tallyd, connections => 8, depth => 4, accounts => 100);
ok($hammer->wait_more(EVENTS, 30), 'writers go on beside them');
is(call('GET', '/healthz')->{status}, 200, 'so does everybody else');
my $told = $hammer->finish;
is(join(' ', Hammer::oddities($told)), '', 'each was answered as always');
is_deeply([Hammer::lost($tallyd, $told)], [], 'and nothing was lost');
cmp_ok($told->{longest_answer_ms}, '<', 2000 * patience(), 'nobody waited long');
is(scalar <$out>, "fed\n", 'every feed has had events');
is($tallyd->stop, 0, 'a drain ends them all');
my $summary = <$out>;
my ($bytes, $lines, $ended, $wrong) = $summary =~ /^(\d+) bytes, (\d+) lines, (\d+) ended, (\d+) wrong$/ or die $summary;
is($ended, FEEDS, 'each of them');
is($wrong, 0, 'no event out of order, or twice');
cmp_ok($lines, '>=', FEEDS, "events for all: $lines");
close $out;
done_testing();
