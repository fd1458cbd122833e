#!/usr/bin/perl
# tallyctl as it is used: usage, help, manual page and completion know the same commands, options and
# exit statuses; what is not understood is refused with a reason; and where the data directory is taken
# from.

use strict;
use warnings;

use File::Temp qw(tempdir);
use JSON::PP ();
use FindBin;
use lib "$FindBin::RealBin/lib";
use Ctl qw(ctl ctl_json ctl_as_nobody is_error tallyctl);
use Tallyd qw(slurp source_dir);
use Test::More;

my $source = source_dir();
my $page = slurp("$source/man/tallyctl.8");

# ---- what the help says

my ($status, $help, $err) = ctl('help');
is($status, 0, 'help is no error');
is($err, '', 'and no complaint');
is((ctl('-h'))[1], $help, '-h is the same');
is((ctl('--help'))[1], $help, 'so is --help');
my ($list) = $help =~ /^commands:\n((?:  .*\n)+)/m;
my @commands = map { /^  (\w+(?: \w+)?)  +\S/ ? $1 : () } split /\n/, $list;
@commands = grep { $_ ne 'help' } @commands;
cmp_ok(scalar @commands, '>=', 5, 'there are commands');

# "-n --interval SECONDS" of each option that a help lists under HEADING.
sub options_of {
	my ($text, $heading) = @_;
	my ($part) = $text =~ /^\Q$heading\E:\n((?:  .*\n)+)/m or return;
	return map { /^  ((?:-\w)?(?:, )?(?:--[\w-]+)?(?: [A-Z]+)?)  +\S/ ? $1 =~ s/,//r : "cannot read: $_" } split /\n/, $part;
}

my @common = options_of($help, 'options of every command');
is_deeply(\@common, ['-d --data DIR', '-c --config FILE', '--json', '-h --help'], 'the common options');
my %statuses = $help =~ /^  (\d)  (\S.*)$/mg;
cmp_ok(scalar keys %statuses, '>=', 8, 'the exit statuses');

# ---- what the manual page says

my %section;
while ($page =~ /^\.Ss (.*)\n((?:(?!\.Ss |\.Sh ).*\n)*)/mg) {
	$section{$1} = $2;
}

# The same of a page's list: ".It Fl n Ar SECONDS , Fl Fl interval Ar SECONDS".
sub options_in {
	my ($text) = @_;
	my @options;
	while ($text =~ /^\.It ((?:Fl .*))$/mg) {
		my @forms = split / , /, $1;
		my ($value) = $forms[-1] =~ / Ar (\w+)$/;
		my @names = map { my $form = $_; $form =~ s/ Ar \w+$//; $form =~ s/Fl Fl /--/; $form =~ s/Fl /-/; $form } @forms;
		push @options, join ' ', @names, defined $value ? $value : ();
	}
	return @options;
}

is_deeply([sort grep { $_ ne 'help' } keys %section], [sort @commands], 'tallyctl(8) has each command, and no other');
my ($description) = $page =~ /^\.Sh DESCRIPTION\n(.*?)^\.Ss /ms;
is_deeply([options_in($description)], \@common, 'and the common options');
my ($synopsis) = $page =~ /^\.Sh SYNOPSIS\n(.*?)^\.Sh /ms;
for my $command (@commands) {
	my ($code, $text, $complaint) = ctl('help', split / /, $command);
	is($code, 0, "help $command");
	is((ctl(split(/ /, $command), '--help'))[1], $text, "$command --help is the same");
	like($text, qr/^usage: tallyctl \Q$command\E(?: |$)/m, 'its usage');
	is_deeply([options_of($text, 'options of every command')], \@common, 'the common options');
	is_deeply([options_in($section{$command} || '')], [options_of($text, 'options')],
		'its own options are those of the manual page');
	like($synopsis, qr/^\.Cm \Q$command\E$/m, 'it is in the synopsis');
	my ($usage) = $text =~ /^usage: tallyctl (.*(?:\n {16,}.*)*)/;
	my ($line) = $synopsis =~ /^\.Cm \Q$command\E\n((?:\.(?:Op|Ar) .*\n)*)/m;
	my @given = map { s/^Op Fl Fl (\S+)$/[--$1]/r =~ s/^Op Fl Fl (\S+) Ar (\w+)$/[--$1=$2]/r =~ s/^Op Fl (\w)$/[-$1]/r =~ s/^Op Ar (\w+)$/[$1]/r =~ s/^Op Fl (\w) Ar (\w+)$/[-$1 $2]/r =~ s/^Ar (\w+)$/$1/r } map { s/^\.//r } split /\n/, $line || '';
	is(join(' ', $command, @given), $usage =~ s/\s+/ /gr, 'with the same words');
}
my ($exits) = $page =~ /^\.Sh EXIT STATUS\n(.*?)^\.Sh /ms;
is_deeply([$exits =~ /^\.It (\d+)$/mg], [sort keys %statuses], 'the page has each exit status');
my $header = slurp("$source/src/tools/command.h");
is_deeply([sort $header =~ /^#define COMMAND_(?!WORDS|OPTIONS|GIVEN|MESSAGE)\w+ +(\d+)/mg], [sort keys %statuses],
	'and the code no other');
my %reason = slurp("$source/src/tools/commands.c") =~ /\{COMMAND_\w+, "(\w+)", ()/g;
delete $reason{done};
is_deeply([sort $exits =~ /^\.Pq (\w+)$/mg], [sort keys %reason], 'with the reasons of --json');

# Problems.
my @described = $section{status} =~ /^\.It (\w+) Ta (?:yes|no|all|ring) Ta/mg;
cmp_ok(scalar @described, '>', 15, 'the page has the problems');
for my $word (@described) {
	like(slurp("$source/src/tools/health.c"), qr/"$word"/, "of which $word is one");
}
my %described = map { $_ => 1 } @described;
my @reasons = (slurp("$source/src/tools/health.c") =~ /add\(health, \w+, "(\w+)"/g,
	slurp("$source/src/tools/health.c") =~ /judge_table\([^;]*?"(\w+)", health\)/g);
cmp_ok(scalar @reasons, '>', 15, 'the code adds problems');
is(join(' ', grep { !$described{$_} } @reasons), '', 'and no others');

# ---- what is not understood

my $nowhere = tempdir(CLEANUP => 1);
for my $case (
	[[], qr/which command\?/],
	[['statsu'], qr/"statsu" is no command/],
	[['journal'], qr/"journal" is no command/],
	[['journal', 'chek'], qr/"journal chek" is no command/],
	[['-x', 'status'], qr/-x: there is no such option/],
	[['--jsn', 'status'], qr/--jsn: there is no such option/],
	[['status', '-x'], qr/-x: there is no such option/],
	[['status', '--once'], qr/--once: there is no such option/],
	[['status', '--json=1'], qr/--json=1: there is no such option, or it takes no argument/],
	[['-d'], qr/-d: its argument is missing/],
	[['status', '--data'], qr/--data: its argument is missing/],
	[['status', 'me'], qr/"me" is one word too many/],
	[['-d', '', 'status'], qr/the data directory's name is empty/],
	[['top', '-n', '0'], qr/-n: "0" is no such number of seconds; allowed: 0.1 to 3600/],
	[['top', '-n', '1e3'], qr/-n: "1e3" is no such number/],
	[['top', '-n', ''], qr/-n: "" is no such number/],
	[['top', '-n', '0x1'], qr/-n: "0x1" is no such number/],
	[['status', ('-d', $nowhere) x 33], qr/more than 32 options/],
	[['help', 'statsu'], qr/"statsu" is no command/],
) {
	my ($arguments, $pattern) = @$case;
	my ($code, $out, $complaint) = ctl(@$arguments);
	my $words = join ' ', @$arguments[0 .. ($#$arguments < 3 ? $#$arguments : 3)];
	is($code, 2, "tallyctl $words");
	like($complaint, qr/^tallyctl: .*$pattern.*\nusage: tallyctl/, 'is refused with the reason and the usage');
	is($out, '', 'and nothing on standard output');
}
# With --json wherever it stands, also behind what is wrong.
for my $case (['nosuch', '--json'], ['--json', 'nosuch'], ['--nosuch', '--json', 'status'], ['status', '-x', '--json'], ['journal', 'chek', '--json'],
	['export', '--nosuch', '--json'], ['status', ('-d', $nowhere) x 33, '--json'], ['help', 'statsu', '--json'], ['--json'], ['get', '--json']) {
	my ($code, $out, $complaint) = ctl(@$case);
	my $words = join ' ', @$case[0 .. ($#$case < 3 ? $#$case : 3)];
	is($code, 2, "tallyctl $words");
	my $said = eval { JSON::PP->new->utf8->decode($out) } || {};
	is("$said->{status} $said->{reason}", 'error usage', 'says so in JSON');
	like($complaint, qr/^tallyctl: \Q$said->{detail}\E\nusage:/, 'as in words');
}
is((ctl('export', '-o', '--json', '-x'))[0], 2, 'as the value of an option it may mean this');
my (undef, $by_name) = ctl('-d', $nowhere, 'export', '-o', '--json');
is($by_name, '', '... but only while the line is not understood');
my ($version_status, $version) = ctl('-V');
is($version_status, 0, 'its version');
like($version, qr/^tallyctl \d+\.\d+\.\d+\n\z/, 'is told');

# ---- where the data directory is

my $dir = tempdir(CLEANUP => 1);
mkdir "$dir/data" or die $!;
sub configure {
	my ($text) = @_;
	open my $file, '>', "$dir/tallyd.conf" or die $!;
	print {$file} $text;
	close $file;
	return ('-c', "$dir/tallyd.conf");
}
my $listen = qq(listen "127.0.0.1:7070" {\n\tprotocol = "http" # one\n}\n);
for my $text (
	qq(data_directory = "$dir/data"\n$listen),
	qq($listen/* data_directory = "\/nowhere" */ data_directory = '$dir/data'\n),
) {
	is_error([configure($text), 'status'], 3, 'not_running', qr/\Q$dir\E\/data: no tallyd has run here yet/, 'by the configuration');
}
is_error([configure(qq(data_directory = "$dir/data"\n)), '-d', $nowhere, 'status'], 3, 'not_running',
	qr/\Q$nowhere\E: no tallyd/, '-d comes before it');
is_error([configure("data_directory = relative\n"), 'status'], 2, 'usage',
	qr/tallyd\.conf:1: data_directory: "relative"/, 'a configuration that is wrong');
is_error(['-c', "$dir/none", 'status'], 2, 'usage', qr/none: cannot be read: No such file/, 'one that is not there');
is_error(['-d', 'x' x 5000, 'status'], 1, 'failed', qr/File name too long/, 'a name that is too long');
SKIP: {
	skip 'only root can be somebody else', 2 if $> != 0;
	configure(qq(data_directory = "$dir/data"\n));
	chmod 0755, $dir;
	chmod 0600, "$dir/tallyd.conf";
	my ($code, $out, $complaint) = ctl_as_nobody('-c', "$dir/tallyd.conf", 'status');
	is($code, 4, 'one that may not be read');
	like($complaint, qr/tallyd\.conf: cannot be read: Permission denied; do it as root, .*, or name the data directory with -d/, 'is told with a way out');
}

# Standard output that takes nothing.
SKIP: {
	skip 'there is no /dev/full', 2 unless -e '/dev/full';
	my $complaint = `'@{[tallyctl()]}' help 2>&1 >/dev/full`;
	is($? >> 8, 1, 'what cannot be written is no success');
	like($complaint, qr/^tallyctl: standard output: No space left/, 'and told');
}

# Standard output that is not there.
my $closed = `'@{[tallyctl()]}' help 2>&1 >&-`;
is($? >> 8, 1, 'nor is what nobody gets');
like($closed, qr/^tallyctl: standard output: Bad file descriptor$/, 'which is told, too');

# ---- completion

my $script = "$source/etc/bash-completion/tallyctl";
sub complete {
	my (@words) = @_;
	open my $from, '-|', 'bash', '--norc', '-c', 'source "$0" && COMP_WORDS=(tallyctl "${@:2}") &&
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) &&
		_tallyctl "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>&1
		printf "%s\\n" "${COMPREPLY[@]}"', $script, tallyctl(), @words or die "no bash: $!";
	my @answer = <$from>;
	close $from;
	chomp @answer;
	return join ' ', sort @answer;
}
SKIP: {
	skip 'there is no bash', 1 unless -x '/bin/bash';
	my %first = map { (split / /)[0] => 1 } @commands, 'help';
	is(complete(''), join(' ', sort keys %first), 'completion: every command');
	is(complete('sta'), 'status', 'the one that begins so');
	is(complete('journal', 'ch'), 'check', 'its second word');
	is(complete('-d', '/tmp', 'sna'), 'snapshot', 'behind an option with an argument');
	is(complete('--json', 'st'), 'status', 'behind one without');
	is(complete('help', 'ge'), 'get', 'behind help');
	is(complete('get', ''), '', 'no names of accounts');
	is(complete('-c', "$dir/tall"), "$dir/tallyd.conf", 'files behind -c');
	is(complete('status', '-d', "$dir/da"), "$dir/data", 'directories behind -d');
	is(complete('--data', '=', '/tmp', 'sna'), 'snapshot', 'behind one with its argument behind =');
	my $both = "$dir/data $dir/tallyd.conf";
	for my $words (['import'], ['import', '-t'], ['import', '--rejects'], ['import', '-k'], ['export', '-o'], ['export', '--output'], ['export', '--output', '='],
		['token', 'list', '-f'], ['--json', 'token', 'add', '-s', 'read', '--file']) {
		is(complete(@$words, "$dir/"), $both, "names of files behind @$words");
	}
	is(complete('export', '--output', '='), complete('export', '-o', ''), '... also of none yet');
	is(complete('backup', "$dir/"), "$dir/data", 'of directories behind backup');
	is(complete(@$_, "$dir/"), '', "but none behind @$_") for ['get'], ['export'], ['snapshot', '-t'], ['journal', 'cat', '-n'], ['token', 'list'], ['token', 'add', '-p'];
	for my $command (@commands) {
		my ($text) = (ctl('help', split / /, $command))[1];
		my @options = grep { /^-/ } map { split / / } options_of($text, 'options'), @common;
		is(complete(split(/ /, $command), '-'), join(' ', sort @options), "every option of $command");
	}
	is(system("bash --norc -n '$script'"), 0, 'it has no fault for bash');
	is(`bash --norc -c 'source "$script"; complete -p tallyctl'`, "complete -F _tallyctl tallyctl\n", 'sourced, it is there');
}

done_testing();
