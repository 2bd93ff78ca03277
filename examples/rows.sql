-- Builds, indexes and joins a few hundred thousand rows in memory.
create table orders(id integer primary key, customer integer, item text, price real);
create table customers(id integer primary key, name text, city text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
  insert into customers select i, 'customer ' || i, 'city ' || (i % 97) from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 300000)
  insert into orders select i, (i * 7919) % 20000 + 1, 'item ' || (i % 1000), i % 500 + 0.99 from n;
create index orders_by_customer on orders(customer);
create index orders_by_item on orders(item, price);
create temp table per_city as
  select city, count(*) as orders, sum(price) as total
  from orders join customers on customers.id = orders.customer group by city;
select count(*), sum(orders) from per_city;
