#!/usr/bin/perl
# A bank: customers do every kind of operation at random on 1 000 accounts with floors at zero,
# while workers, the journal writer and the snapshotter are killed.  At the end, and again after
# everything was killed and recovered, the books must follow from what the customers were told.
#
# TALLYD_BANK_SECONDS (default 10): how long the bank is open.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Bank;
use Tallyd qw(build_dir patience wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	KILL_EVERY => 0.05, # seconds
	CUSTOMERS  => 16,
	ACCOUNTS   => 1000,
	TOLD       => 20,   # differences that are printed
};

my $seconds = $ENV{TALLYD_BANK_SECONDS} || 10;
my $dir = tempdir(CLEANUP => 1);
my $tallyd = Tallyd->start(config => { workers => 4, respawn_backoff => 0, default_floor => 0,
	snapshot_every => '1M', journal_segment => '8M', max_accounts => 10_000, max_holds => 20_000 });
my $bank = Bank->open($tallyd, dir => $dir, prefix => 'bank', accounts => ACCOUNTS,
	customers => CUSTOMERS);

my %killed;
my $end = time + $seconds;
while (time < $end) {
	my @children = $tallyd->children;
	my @workers = grep { $_->{role} eq 'worker' } @children;
	@children = @workers if rand(10) < 8;
	my $one = $children[rand @children];
	$killed{ $one->{role} }++ if $one && kill 'KILL', $one->{pid};
	last if defined $tallyd->exit_status;
	sleep KILL_EVERY;
}
ok($bank->close, 'every customer got an answer to everything') or diag $tallyd->log_tail;
ok(!defined $tallyd->exit_status, 'the daemon lives') or diag $tallyd->log_tail;

my $told = $bank->testimony;
note join ', ', map { "$_: $told->{kinds}{$_}" } sort keys %{ $told->{kinds} };
note join ', ', map { "killed $killed{$_} $_" } sort keys %killed;
ok($told->{kinds}{$_}, "there were: $_") for 'event 200', 'event 402', 'transfer 200', 'transfer 402',
	'transaction 200', 'hold 201', 'hold 402', 'capture 200', 'release 200', 'replace 200',
	'create 201', 'delete 200', 'delete 409';
cmp_ok($killed{worker} || 0, '>=', $seconds * 4 / patience(), 'workers were killed');

sub agree {
	my ($when) = @_;
	my $books = Bank::books($tallyd);
	my @wrong = Bank::differences($told, $books);
	is(scalar @wrong, 0, "$when: the books follow from the answers");
	diag "$when: $_" for @wrong[0 .. (@wrong < TOLD ? $#wrong : TOLD - 1)];
	cmp_ok(scalar keys %$books, '>', ACCOUNTS / 2, "$when: most accounts are in use");
	return;
}

agree('at the end');
$tallyd->kill9;
$tallyd->start_again;
agree('after everything was killed');
is($tallyd->stop, 0, 'it stops');
my $ctl = build_dir() . '/tallyctl';
my $said = `'$ctl' -d '@{[$tallyd->data_dir]}' journal check 2>&1`;
is($?, 0, 'tallyctl journal check agrees') or diag $said;
note $said;
unlink $_ or die "unlink $_: $!" for glob $tallyd->data_dir . '/snapshots/*';
$tallyd->start_again;
agree('from the journal alone');
is($tallyd->stop, 0, 'it stops again');

# The auditor is not blind.
my $books = { a1 => { balance => 5, held => 0, version => 2, holds => [], entries => [
	{ version => 1, amount => 7, balance => 7, held => 0, lsn => 'x', type => 'event' },
	{ version => 2, amount => -2, balance => 5, held => 0, lsn => 'y', type => 'event' }] } };
my $heard = { odd => [], holds => {}, told => { 'a1 1' => ['x', 7, 7], 'a1 2' => ['y', -2, 5] } };
is_deeply([Bank::differences($heard, $books)], [], 'sound books pass');
for my $case (
	['a lost event', sub { pop @{ $_[1]{a1}{entries} } }],
	['an event twice', sub { push @{ $_[1]{a1}{entries} }, { %{ $_[1]{a1}{entries}[1] },
		version => 3, balance => 3 } }],
	['a wrong balance', sub { $_[1]{a1}{balance} = 6 }],
	['a balance that was told otherwise', sub { $_[0]{told}{'a1 2'}[2] = 4 }],
	['held without a hold', sub { $_[1]{a1}{held} = 1 }],
	['a floor broken', sub { $_[1]{a1}{entries}[0]{held} = 8 }],
	['something nobody was told', sub { delete $_[0]{told}{'a1 1'} }],
	['something told and gone', sub { $_[0]{told}{'a1 3'} = ['z', 1, 6] }],
) {
	my ($what, $break) = @$case;
	my $json = JSON::PP->new->canonical;
	my ($t, $b) = map { $json->decode($json->encode($_)) } $heard, $books;
	$break->($t, $b);
	my @noticed = Bank::differences($t, $b);
	cmp_ok(scalar @noticed, '>', 0, "$what is noticed");
}
done_testing;
