#!/usr/bin/perl
# Indexes the words of a made-up text and sorts them. What `make bench` runs of Perl: words.pl LINES.
use strict;
use warnings;

my ($lines) = @ARGV;
my $random = 1;

sub next_random {
    $random = ($random * 1103515245 + 12345) % 2147483648;
    return $random >> 8;
}

sub line {
    return join ' ', map { 'w' . (next_random() % (next_random() % 5 ? 500 : 50000)) } 1 .. 10;
}

my (%places, %after);
for my $number (1 .. $lines) {
    my $before = '';
    for my $word (split / /, line()) {
        push @{$places{$word}}, $number;
        $after{$before}{$word}++ if $before;
        $before = $word;
    }
}
my @often = sort { @{$places{$b}} <=> @{$places{$a}} || $a cmp $b } keys %places;
my %by_start;
for my $word (keys %after) {
    push @{$by_start{substr $word, 0, 2}}, map { "$word $_" } keys %{$after{$word}};
}
printf "%d words, %d starts, most often: %s\n", scalar @often, scalar keys %by_start, $often[0];
