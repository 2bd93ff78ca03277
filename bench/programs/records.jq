# Groups, sorts and totals a list of records. What `make bench` runs of jq, on a generated file.
map(select(.active) | . + {total: ([.items[].price] | add), tags: (.tags | map(ascii_upcase))})
| group_by(.city)
| map({city: .[0].city, people: length, total: (map(.total) | add), tags: (map(.tags[]) | unique)})
| sort_by(-.total)
